//! Finds the compiled eBPF object and puts it where the daemon includes it from.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Where `cargo xtask build` leaves the object, under the target folder.
const PLACE: &str = "bpf/gateway.o";

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed=GATEWAY_EBPF_OBJECT");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let object = match env::var_os("GATEWAY_EBPF_OBJECT") {
        Some(path) => PathBuf::from(path),
        None => in_target_folder(&out),
    };
    println!("cargo::rerun-if-changed={}", object.display());
    match fs::copy(&object, out.join("gateway.o")) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            println!(
                "cargo::error=no compiled eBPF object at {}: {error}. Make it with `cargo xtask build`, or name one in GATEWAY_EBPF_OBJECT",
                object.display()
            );
            ExitCode::FAILURE
        }
    }
}

/// The object under the nearest folder above `out` that has one; else under the folder that holds the profile.
fn in_target_folder(out: &Path) -> PathBuf {
    let folders: Vec<&Path> = out.ancestors().skip(3).take(3).collect();
    let found = folders.iter().map(|folder| folder.join(PLACE)).find(|path| path.exists());
    found.unwrap_or_else(|| folders.get(1).map_or_else(|| PLACE.into(), |folder| folder.join(PLACE)))
}
