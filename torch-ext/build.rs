//! Compiles `cpp/` against libtorch's own headers and tells the crates above where
//! libtorch lies (`DEP_PALETTE_TORCH_EXT_LIBDIR`, read by `rpath.rs`).
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The files of `cpp/`.
const SOURCES: [&str; 14] = [
    "buckets",
    "device",
    "ext",
    "group",
    "memory",
    "nccl",
    "norm",
    "norm_device",
    "numerics",
    "resample",
    "residual",
    "segment",
    "stream",
    "weights",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    println!("cargo:rerun-if-changed=cpp");
    println!("cargo:rerun-if-changed=cuda");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-env-changed=LIBTORCH_CXX11_ABI");
    let lib = libtorch()?;
    let include = lib
        .parent()
        .ok_or_else(|| format!("{} has no parent folder", lib.display()))?
        .join("include");
    if !include.join("ATen/ATen.h").is_file() {
        return Err(format!(
            "{} lacks ATen/ATen.h: libtorch's headers must lie beside its libraries",
            include.display()
        ));
    }
    let abi = std::env::var("LIBTORCH_CXX11_ABI").unwrap_or_else(|_| "1".to_owned());
    let common = cc::Build::new()
        .cpp(true)
        .std("c++17")
        .pic(true)
        .warnings(false)
        // The loops of norm.cpp are written for vector units and libtorch's own threads.
        .opt_level(3)
        .flag("-fopenmp")
        .flag("-fno-trapping-math")
        .flag("-fno-math-errno")
        .flags(vector_flags())
        .flag(format!("-isystem{}", include.display()))
        .flag(format!("-isystem{}", include.join("torch/csrc/api/include").display()))
        // group.cpp: libtorch has Gloo inside, and no headers of it.
        .flag("-isystemcpp/gloo-headers")
        .define("USE_C10D_GLOO", None)
        .define("_GLIBCXX_USE_CXX11_ABI", abi.as_str())
        .clone();
    // The same bits on every device: a product and a sum are rounded one after the other.
    common
        .clone()
        .flag("-ffp-contract=off")
        .file("cpp/random.cpp")
        .try_compile("palette_torch_random")
        .map_err(|error| format!("cpp/random.cpp does not compile: {error}"))?;
    common
        .clone()
        .files(SOURCES.iter().map(|name| format!("cpp/{name}.cpp")))
        .file(embedded_kernels()?)
        .try_compile("palette_torch_ext")
        .map_err(|error| format!("cpp/ does not compile: {error}"))?;
    // The OpenMP that libtorch brings along: a second one would have threads of its own.
    println!("cargo:rustc-link-lib=dylib:+verbatim=libgomp.so.1");
    println!("cargo:libdir={}", lib.display());
    // This crate's own tests find libtorch as the programs do.
    run_path(&lib);
    Ok(())
}

/// Writes the PTX of `cuda/` as C++ constants, which `cpp/device.cpp` looks through.
fn embedded_kernels() -> Result<PathBuf, String> {
    let told = |what: &Path, error| format!("{}: {error}", what.display());
    let folder = Path::new("cuda");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map_err(|error| told(folder, error))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|it| it == "ptx"))
        .collect();
    files.sort();
    let mut entries = String::new();
    for path in &files {
        let text = std::fs::read_to_string(path).map_err(|error| told(path, error))?;
        let compute = text
            .lines()
            .find_map(|line| line.strip_prefix(".target sm_"))
            .ok_or_else(|| format!("{} names no target", path.display()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        entries += &format!("    {{\"{name}\", {compute}, R\"ptx({text})ptx\"}},\n");
    }
    let source = format!(
        "#include <cstddef>\n\
         struct Ptx {{ const char* module; int compute; const char* text; }};\n\
         extern const Ptx palette_ptx[];\n\
         extern const size_t palette_ptx_count;\n\
         const Ptx palette_ptx[] = {{\n{entries}}};\n\
         const size_t palette_ptx_count = {};\n",
        files.len()
    );
    let out = std::env::var_os("OUT_DIR").ok_or("cargo names no OUT_DIR")?;
    let path = Path::new(&out).join("kernels.cpp");
    std::fs::write(&path, source).map_err(|error| told(&path, error))?;
    Ok(path)
}

/// As the Rust code is compiled (`.cargo/config.toml`).
fn vector_flags() -> &'static [&'static str] {
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let wide = features.split(',').any(|feature| feature == "avx2");
    if wide { &["-march=x86-64-v3"] } else { &[] }
}

/// libtorch's library folder as torch-sys found it, links resolved.
fn libtorch() -> Result<PathBuf, String> {
    let named = std::env::var("DEP_TCH_LIBTORCH_LIB").map_err(|_| {
        "torch-sys does not name libtorch's folder (DEP_TCH_LIBTORCH_LIB)".to_owned()
    })?;
    Path::new(&named)
        .canonicalize()
        .map_err(|error| format!("libtorch's folder {named} cannot be read: {error}"))
}

fn run_path(lib: &Path) {
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
