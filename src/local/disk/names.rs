//! Operations on the names in one directory.
//!
//! On Unix the directory is a descriptor: whatever happens to its path later (a new working
//! directory, a rename, a symbolic link that leads elsewhere, a mount over it), the names are those
//! of the directory that was opened. On other systems it is the path, which is weaker: if the path
//! comes to mean another directory, so do the names.

#[cfg(unix)]
pub(super) use of_descriptor::Names;
#[cfg(not(unix))]
pub(super) use of_path::Names;

/// Distinguishes a file from all others on the machine.
#[cfg(unix)]
pub(super) type Identity = (u64, u64);
#[cfg(not(unix))]
pub(super) type Identity = ();

#[cfg(unix)]
mod of_descriptor {
    use std::fs::File;
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use rustix::fs::{AtFlags, FileType, Mode, OFlags};

    use super::Identity;

    #[derive(Debug)]
    pub(in super::super) struct Names(File);

    impl Names {
        /// `NotADirectory` if the path is something else.
        pub(in super::super) fn of(path: &Path) -> io::Result<Self> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(Self(rustix::fs::open(path, flags, Mode::empty())?.into()))
        }

        /// All names except `.` and `..`.
        pub(in super::super) fn list(&self) -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(&self.0)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy();
                if name != "." && name != ".." {
                    names.push(name.into_owned());
                }
            }
            Ok(names)
        }

        /// Opens a regular file. A symbolic link would lead out of the store, and a FIFO would
        /// block for ever.
        pub(in super::super) fn open(&self, name: &str) -> io::Result<File> {
            let looked_at = rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(looked_at.st_mode) != FileType::RegularFile {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
            }
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
            let file = File::from(rustix::fs::openat(&self.0, name, flags, Mode::empty())?);
            // Between the two calls someone may have put another file in its place.
            if identity(&file)? != of_stat(&looked_at) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the file it was"));
            }
            Ok(file)
        }

        /// Creates a file that doesn't exist yet.
        pub(in super::super) fn create(&self, name: &str) -> io::Result<File> {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
            Ok(rustix::fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?.into())
        }

        pub(in super::super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
        }

        pub(in super::super) fn remove(&self, name: &str) -> io::Result<()> {
            Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
        }

        pub(in super::super) fn sync(&self) -> io::Result<()> {
            self.0.sync_all()
        }

        /// The directory that contains this one, wherever it is now.
        pub(in super::super) fn parent(&self) -> io::Result<Self> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(Self(rustix::fs::openat(&self.0, "..", flags, Mode::empty())?.into()))
        }

        /// The identity of the file with this name.
        pub(in super::super) fn identity(&self, name: &str) -> io::Result<Identity> {
            Ok(of_stat(&rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?))
        }

        /// Whether the directory itself has been removed.
        pub(in super::super) fn is_removed(&self) -> io::Result<bool> {
            Ok(self.0.metadata()?.nlink() == 0)
        }

        /// The permissions of the directory.
        pub(in super::super) fn mode(&self) -> io::Result<u32> {
            Ok(self.0.metadata()?.mode())
        }

        /// The permissions of a file.
        #[expect(clippy::useless_conversion, reason = "types vary by system")]
        pub(in super::super) fn mode_of(&self, name: &str) -> io::Result<u32> {
            Ok(rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode.into())
        }
    }

    #[expect(clippy::unnecessary_cast, reason = "types vary by system")]
    fn of_stat(stat: &rustix::fs::Stat) -> Identity {
        (stat.st_dev as u64, stat.st_ino as u64)
    }

    pub(in super::super) fn identity(file: &File) -> io::Result<Identity> {
        let metadata = file.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Whether a file no longer has a name.
    ///
    /// It requests nothing else: once Linux has reported when a file was written, it must record
    /// the time of the next write more precisely, and each sync takes a third longer.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(in super::super) fn is_unlinked(file: &File) -> io::Result<bool> {
        use rustix::fs::{StatxFlags, statx};
        match statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::NLINK) {
            Ok(stat) => Ok(stat.stx_nlink == 0),
            // An old kernel, or a system call filter.
            Err(_) => Ok(file.metadata()?.nlink() == 0),
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(in super::super) fn is_unlinked(file: &File) -> io::Result<bool> {
        Ok(file.metadata()?.nlink() == 0)
    }

    /// Whether a file has more than one name.
    pub(in super::super) fn is_shared(file: &File) -> io::Result<bool> {
        Ok(1 < file.metadata()?.nlink())
    }
}
#[cfg(unix)]
pub(super) use of_descriptor::{identity, is_shared, is_unlinked};

#[cfg(not(unix))]
mod of_path {
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::path::{Path, PathBuf};

    use super::Identity;

    #[derive(Debug)]
    pub(in super::super) struct Names(PathBuf);

    impl Names {
        pub(in super::super) fn of(path: &Path) -> io::Result<Self> {
            if !std::fs::metadata(path)?.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            // From here on, a change of the working directory makes no difference.
            Ok(Self(std::path::absolute(path)?))
        }

        pub(in super::super) fn list(&self) -> io::Result<Vec<String>> {
            let name = |entry: io::Result<std::fs::DirEntry>| {
                Ok(entry?.file_name().to_string_lossy().into_owned())
            };
            std::fs::read_dir(&self.0)?.map(name).collect()
        }

        pub(in super::super) fn open(&self, name: &str) -> io::Result<File> {
            let path = self.0.join(name);
            if !std::fs::symlink_metadata(&path)?.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
            }
            OpenOptions::new().read(true).write(true).open(path)
        }

        pub(in super::super) fn create(&self, name: &str) -> io::Result<File> {
            OpenOptions::new().read(true).write(true).create_new(true).open(self.0.join(name))
        }

        pub(in super::super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            std::fs::rename(self.0.join(from), self.0.join(to))
        }

        pub(in super::super) fn remove(&self, name: &str) -> io::Result<()> {
            std::fs::remove_file(self.0.join(name))
        }

        /// On these systems names become durable with their files.
        #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as on Unix")]
        pub(in super::super) fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        pub(in super::super) fn parent(&self) -> io::Result<Self> {
            Ok(Self(self.0.parent().unwrap_or(&self.0).to_owned()))
        }

        pub(in super::super) fn identity(&self, name: &str) -> io::Result<Identity> {
            std::fs::symlink_metadata(self.0.join(name)).map(drop)
        }

        pub(in super::super) fn is_removed(&self) -> io::Result<bool> {
            Ok(!self.0.try_exists()?)
        }

        #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as on Unix")]
        pub(in super::super) fn mode(&self) -> io::Result<u32> {
            Ok(0)
        }

        #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as on Unix")]
        pub(in super::super) fn mode_of(&self, _: &str) -> io::Result<u32> {
            Ok(0)
        }
    }

    pub(in super::super) fn identity(file: &File) -> io::Result<Identity> {
        file.metadata().map(drop)
    }

    #[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
    pub(in super::super) fn is_unlinked(_: &File) -> io::Result<bool> {
        Ok(false)
    }

    #[expect(clippy::unnecessary_wraps, reason = "as on Unix")]
    pub(in super::super) fn is_shared(_: &File) -> io::Result<bool> {
        Ok(false)
    }
}
#[cfg(not(unix))]
pub(super) use of_path::{identity, is_shared, is_unlinked};
