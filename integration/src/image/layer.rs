//! A layer: a tree of files as a compressed archive, of which the same tree always makes the same bytes.
//!
//! Names are in order, everything belongs to root, and times are given or the files' own. What else a file system knows
//! of a file (hard links, extended attributes, when it was read) is left out.

use std::fs::{self, File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::layout::Digest;

/// What is stored, and the digest of what it is when unpacked.
#[derive(Debug, PartialEq, Eq)]
pub struct Layer {
    pub compressed: Vec<u8>,
    pub diff_id: Digest,
    /// Bytes when unpacked.
    pub size: usize,
}

impl Layer {
    /// Of everything below `root`. Every file has this time (seconds since 1970), or its own.
    pub fn of(root: &Path, time: Option<u64>) -> Result<Self> {
        let archive = archive(root, time)?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&archive)?;
        Ok(Self {
            compressed: encoder.finish()?,
            diff_id: Digest::of(&archive),
            size: archive.len(),
        })
    }
}

/// The same, not compressed.
pub fn archive(root: &Path, time: Option<u64>) -> Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for path in below(root)? {
        let name = path.strip_prefix(root)?.to_owned();
        append(&mut archive, &path, &name, time)
            .with_context(|| format!("cannot archive {}", path.display()))?;
    }
    Ok(archive.into_inner()?)
}

/// What is below a folder, each folder before what is in it.
fn below(root: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let entries = fs::read_dir(root).with_context(|| format!("cannot read {}", root.display()))?;
    for entry in entries {
        let entry = entry?;
        paths.push(entry.path());
        if entry.file_type()?.is_dir() {
            paths.extend(below(&entry.path())?);
        }
    }
    paths.sort();
    Ok(paths)
}

fn append(
    archive: &mut Builder<impl Write>,
    path: &Path,
    name: &Path,
    time: Option<u64>,
) -> Result<()> {
    let file = fs::symlink_metadata(path)?;
    let mut header = header(&file, time)?;
    if file.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        archive.append_link(&mut header, name, fs::read_link(path)?)?;
    } else if file.is_dir() {
        header.set_entry_type(EntryType::Directory);
        archive.append_data(&mut header, name, std::io::empty())?;
    } else if file.is_file() {
        header.set_entry_type(EntryType::Regular);
        header.set_size(file.len());
        archive.append_data(&mut header, name, File::open(path)?.take(file.len()))?;
    } else {
        bail!("neither a file, a folder nor a link");
    }
    Ok(())
}

fn header(file: &Metadata, time: Option<u64>) -> Result<Header> {
    let mut header = Header::new_gnu();
    header.set_mode(file.permissions().mode() & 0o7777);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_mtime(match time {
        Some(time) => time,
        None => u64::try_from(file.mtime())?,
    });
    Ok(header)
}
