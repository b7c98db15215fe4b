//! An OCI image layout on disk: blobs by their digests, and an index that names the image.
//!
//! What is read is checked: a blob whose bytes are not those of its name is an error, and so is one that nothing names.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

/// SHA-256, as the specification writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(String);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        let mut text = String::from("sha256:");
        for byte in ring::digest::digest(&ring::digest::SHA256, bytes).as_ref() {
            // Writing into a String does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// What follows the algorithm.
    pub fn hex(&self) -> &str {
        self.0.trim_start_matches("sha256:")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A layout in a folder.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
}

impl Layout {
    /// Makes a folder for a new one, in place of what is there.
    pub fn create(path: &Path) -> Result<Self> {
        if path.exists() {
            fs::remove_dir_all(path)?;
        }
        fs::create_dir_all(path.join(BLOBS))?;
        fs::write(
            path.join("oci-layout"),
            json!({ "imageLayoutVersion": "1.0.0" }).to_string(),
        )?;
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// One that is there.
    pub fn open(path: &Path) -> Result<Self> {
        let layout = Self {
            path: path.to_owned(),
        };
        let version = layout.document("oci-layout")?;
        ensure!(
            version["imageLayoutVersion"] == "1.0.0",
            "layout of version {version}"
        );
        Ok(layout)
    }

    /// Stores a blob and gives its descriptor.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let digest = Digest::of(bytes);
        fs::write(self.path.join(BLOBS).join(digest.hex()), bytes)?;
        Ok(json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() }))
    }

    /// Stores a document.
    pub fn put_document(&self, media_type: &str, document: &Value) -> Result<Value> {
        self.put(media_type, document.to_string().as_bytes())
    }

    /// Names the image by its manifest's descriptor.
    pub fn finish(&self, manifest: &Value) -> Result<()> {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
        fs::write(self.path.join("index.json"), index.to_string())?;
        Ok(())
    }

    /// All of it as one archive, which `ctr images import` takes.
    pub fn archive(&self, to: &Path) -> Result<()> {
        let tree = super::layer::archive(&self.path, Some(0))?;
        fs::write(to, tree).with_context(|| format!("cannot write {}", to.display()))
    }

    fn index(&self) -> Result<Value> {
        self.document("index.json")
    }

    /// The descriptor of the one image.
    pub fn manifest_descriptor(&self) -> Result<Value> {
        let index = self.index()?;
        let manifests = index["manifests"].as_array().context("no manifests")?;
        ensure!(manifests.len() == 1, "{} manifests", manifests.len());
        Ok(manifests[0].clone())
    }

    /// A blob by its descriptor, of that size and with that digest.
    pub fn blob(&self, descriptor: &Value) -> Result<Vec<u8>> {
        let digest = descriptor["digest"].as_str().context("no digest")?;
        let hex = digest.strip_prefix("sha256:").context("not by SHA-256")?;
        let path = self.path.join(BLOBS).join(hex);
        let bytes = fs::read(&path).with_context(|| format!("no blob {digest}"))?;
        ensure!(
            descriptor["size"] == bytes.len(),
            "blob {digest} has {} bytes: {descriptor}",
            bytes.len()
        );
        let found = Digest::of(&bytes);
        ensure!(found.to_string() == digest, "blob {digest} is {found}");
        Ok(bytes)
    }

    /// A blob that is a document.
    pub fn document_blob(&self, descriptor: &Value) -> Result<Value> {
        Ok(serde_json::from_slice(&self.blob(descriptor)?)?)
    }

    /// Digests of what lies in the folder.
    pub fn stored(&self) -> Result<BTreeSet<String>> {
        let mut digests = BTreeSet::new();
        for entry in fs::read_dir(self.path.join(BLOBS))? {
            digests.insert(format!("sha256:{}", entry?.file_name().to_string_lossy()));
        }
        Ok(digests)
    }

    fn document(&self, name: &str) -> Result<Value> {
        let path = self.path.join(name);
        let file = File::open(&path)
            .with_context(|| format!("cannot read {}; `make image` writes it", path.display()))?;
        Ok(serde_json::from_reader(file)?)
    }
}

/// What a compressed layer unpacks to.
pub fn unpacked(layer: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut GzDecoder::new(layer), &mut bytes)?;
    Ok(bytes)
}

const BLOBS: &str = "blobs/sha256";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
