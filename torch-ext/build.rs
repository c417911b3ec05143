fn main(){ let lib = std::env::var("DEP_TCH_LIBTORCH_LIB").unwrap(); println!("cargo:libdir={lib}"); }
