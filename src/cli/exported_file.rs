//! A file that has its name only when it is whole, and its manifest beside it.

use crate::audit::export::manifest::Manifest;
use crate::cli::CliError;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Bytes that are written at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// A file on its way. What is not finished is removed.
pub struct ExportedFile {
    name: PathBuf,
    beside: PathBuf,
    file: BufWriter<File>,
}

impl ExportedFile {
    /// Begins one; `replace` if a file of that name may go.
    pub fn create(name: &Path, replace: bool) -> Result<Self, CliError> {
        for taken in [name.to_owned(), with(name, ".manifest.json")] {
            if !replace && taken.exists() {
                return Err(CliError::Exists { path: taken });
            }
        }
        let beside = with(name, ".part");
        let file = private(&beside).map_err(unwritable(&beside))?;
        Ok(Self {
            name: name.to_owned(),
            beside,
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
        })
    }

    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        self.file.write_all(bytes).map_err(unwritable(&self.beside))
    }

    /// Gives it its name, and it a manifest; answers with the name.
    pub fn finish(mut self, manifest: &Manifest) -> Result<PathBuf, CliError> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .map_err(unwritable(&self.beside))?;
        let beside = with(&self.name, ".manifest.json");
        let mut text = serde_json::to_vec_pretty(manifest).map_err(io::Error::from)?;
        text.push(b'\n');
        // The manifest first: a file that has its name has its manifest.
        let unfinished = with(&self.name, ".manifest.json.part");
        // One that a crash has left may be readable for others.
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(&unfinished)(error)),
            _ => {}
        }
        private(&unfinished)
            .and_then(|mut file| file.write_all(&text).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&unfinished, &beside))
            .map_err(unwritable(&beside))?;
        fs::rename(&self.beside, &self.name).map_err(unwritable(&self.name))?;
        Ok(self.name.clone())
    }
}

impl Drop for ExportedFile {
    fn drop(&mut self) {
        // After it has its name there is nothing to remove.
        let _ = fs::remove_file(&self.beside);
    }
}

/// Who may read the trail, and what was asked of it, is for its owner to say.
fn private(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)
}

fn with(name: &Path, ending: &str) -> PathBuf {
    let mut name: OsString = name.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> CliError + use<'_> {
    |source| CliError::Unwritable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::export::ExportFormat;
    use crate::audit::export::manifest::Tally;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn manifest() -> Manifest {
        Tally::default().manifest(ExportFormat::Log, 0..0, Default::default())
    }

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("trail.csv");
        let mut file = ExportedFile::create(&name, false).unwrap();
        file.write(b"one").unwrap();
        assert_eq!(names(folder.path()), ["trail.csv.part"]);
        file.finish(&manifest()).unwrap();
        assert_eq!(names(folder.path()), ["trail.csv", "trail.csv.manifest.json"]);
        assert_eq!(fs::read(&name).unwrap(), b"one");
    }

    #[cfg(unix)]
    #[test]
    fn a_file_and_its_manifest_are_for_the_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("trail.csv");
        let file = ExportedFile::create(&name, false).unwrap();
        file.finish(&manifest()).unwrap();
        for name in names(folder.path()) {
            let mode = fs::metadata(folder.path().join(&name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn what_is_not_finished_is_removed_and_what_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().join("trail.csv");
        fs::write(&name, "before").unwrap();
        assert!(matches!(
            ExportedFile::create(&name, false),
            Err(CliError::Exists { .. })
        ));
        let mut file = ExportedFile::create(&name, true).unwrap();
        file.write(b"half").unwrap();
        drop(file);
        assert_eq!(names(folder.path()), ["trail.csv"]);
        assert_eq!(fs::read(&name).unwrap(), b"before");
    }
}
