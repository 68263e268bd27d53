//! Runs programs on a disk that fails: `fault_shim.c`, compiled and preloaded.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The compiled shim.
#[derive(Clone)]
pub struct FaultShim {
    library: PathBuf,
}

impl FaultShim {
    /// Compiles it, once per test run. A C compiler (`cc`) is among the requirements for building Grantlog.
    pub fn build() -> Self {
        static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
        let library = LIBRARY.get_or_init(|| {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/fault_shim.c");
            let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fault_shim-{}.so", std::process::id()));
            let compiled = Command::new("cc")
                .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
                .args([&library, &source])
                .arg("-ldl")
                .status()
                .expect("a C compiler named cc is needed, as it is for building Grantlog");
            assert!(compiled.success());
            library
        });
        Self {
            library: library.clone(),
        }
    }

    /// Makes the program that this command starts run on the failing disk.
    pub fn preload(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library);
    }
}

/// Switches a running process into the fault: into none if it is empty.
pub fn steer(control: &Path, fault: &str) {
    let new = control.with_extension("new");
    std::fs::write(&new, fault).unwrap();
    std::fs::rename(&new, control).unwrap();
}

/// A disk that knows which bytes have really reached it.
pub struct Disk {
    kept: PathBuf,
}

impl Disk {
    /// A disk for the log in this folder.
    pub fn new(folder: &Path) -> Self {
        let kept = folder.join("disk");
        std::fs::create_dir(&kept).unwrap();
        Self { kept }
    }

    /// Makes the program that this command starts write to this disk.
    pub fn attach(&self, command: &mut Command) {
        command.env("GRANTLOG_DISK", &self.kept);
    }

    /// Takes from the log's files everything that has not reached the disk. Its program must have been killed.
    pub fn fail_power(&self, log: &Path) {
        for suffix in ["", "-wal", "-journal", "-shm"] {
            let name = format!("{}{suffix}", log.file_name().unwrap().to_str().unwrap());
            let (file, kept) = (log.with_file_name(&name), self.kept.join(&name));
            if kept.exists() {
                std::fs::copy(kept, file).unwrap();
            } else if file.exists() {
                std::fs::remove_file(file).unwrap();
            }
        }
    }
}
