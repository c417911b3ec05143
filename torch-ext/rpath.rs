//! Build script of every crate that links libtorch: puts libtorch's folder into the run path of
//! its programs and tests, so that nobody needs `LD_LIBRARY_PATH`.
use std::process::ExitCode;

fn main() -> ExitCode {
    println!("cargo:rerun-if-changed=../torch-ext/rpath.rs");
    println!("cargo:rerun-if-env-changed=DEP_PALETTE_TORCH_EXT_LIBDIR");
    let Ok(folder) = std::env::var("DEP_PALETTE_TORCH_EXT_LIBDIR") else {
        eprintln!("error: this crate must depend on torch-ext, which names libtorch's folder");
        return ExitCode::FAILURE;
    };
    println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    // A program that is carried to another machine finds a libtorch folder beside itself.
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/libtorch/lib");
    ExitCode::SUCCESS
}
