//! Says what to do where the set-up has not fetched what pages are served with.

fn main() {
    println!("cargo::rerun-if-changed=assets");
    for file in ["uplot.js", "uplot.css"] {
        let path = std::path::Path::new("assets/vendor").join(file);
        if !path.is_file() {
            println!(
                "cargo::error=room/{} is missing: run `make setup` (or `python3 scripts/assets.py`)",
                path.display()
            );
        }
    }
}
