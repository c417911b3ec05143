//! Build script of every crate that links libtorch: puts libtorch's folder into the run path of
//! its programs and tests, so that nobody needs `LD_LIBRARY_PATH`.
fn main() {
    println!("cargo:rerun-if-changed=../torch-ext/rpath.rs");
    let folder = std::env::var("DEP_PALETTE_TORCH_EXT_LIBDIR").expect("torch-ext names libtorch's folder");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    // A program that is carried to another machine finds a libtorch folder beside itself.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/libtorch/lib");
}
