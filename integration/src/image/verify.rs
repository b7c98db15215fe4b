//! Reads a layout and believes nothing in it: every digest, every size, every reference, what the layers unpack to.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::layout::{CONFIG, Digest, LAYER, Layout, MANIFEST, unpacked};

/// An image whose every byte is what the layout says.
#[derive(Debug)]
pub struct Image {
    /// Of the manifest.
    pub digest: String,
    pub config: Value,
    /// What each layer unpacks to, an archive; the lowest first.
    pub layers: Vec<Vec<u8>>,
}

impl Image {
    /// The one image of a layout.
    pub fn read(path: &Path) -> Result<Self> {
        let layout = Layout::open(path)?;
        let named = layout.manifest_descriptor()?;
        is(&named, MANIFEST)?;
        let manifest = layout.document_blob(&named)?;
        is(&manifest, MANIFEST)?;
        is(&manifest["config"], CONFIG)?;
        let config = layout.document_blob(&manifest["config"])?;
        ensure!(
            named["platform"]["architecture"] == config["architecture"] && config["os"] == "linux",
            "the index has {}, the image {}",
            named["platform"],
            config["architecture"]
        );
        let digest = |descriptor: &Value| descriptor["digest"].as_str().map(str::to_owned);
        let mut named_blobs = BTreeSet::from_iter(digest(&named));
        named_blobs.extend(digest(&manifest["config"]));
        let stored = manifest["layers"].as_array().context("no layers")?;
        let diff_ids = config["rootfs"]["diff_ids"]
            .as_array()
            .context("no diff_ids")?;
        ensure!(
            stored.len() == diff_ids.len(),
            "{} layers, {} diff_ids",
            stored.len(),
            diff_ids.len()
        );
        let mut layers = Vec::new();
        for (descriptor, diff_id) in stored.iter().zip(diff_ids) {
            is(descriptor, LAYER)?;
            named_blobs.extend(digest(descriptor));
            let layer = unpacked(&layout.blob(descriptor)?)?;
            let found = Digest::of(&layer);
            ensure!(
                *diff_id == found.to_string(),
                "{descriptor} unpacks to {found}, not {diff_id}"
            );
            layers.push(layer);
        }
        let there = layout.stored()?;
        ensure!(
            there == named_blobs,
            "blobs {there:?}, named are {named_blobs:?}"
        );
        Ok(Self {
            digest: digest(&named).context("no digest")?,
            config,
            layers,
        })
    }

    /// Puts the layers one over the other, as root.
    pub fn unpack(&self, to: &Path) -> Result<()> {
        std::fs::create_dir_all(to)?;
        for layer in &self.layers {
            let mut archive = tar::Archive::new(layer.as_slice());
            archive.set_preserve_permissions(true);
            archive.set_preserve_ownerships(true);
            archive.unpack(to)?;
        }
        Ok(())
    }
}

/// Unpacks a layout, to look into.
pub fn unpack(layout: &Path, to: &Path) -> Result<()> {
    let image = Image::read(layout)?;
    image.unpack(to)?;
    println!("{} {}", image.digest, image.config["config"]["Entrypoint"]);
    Ok(())
}

fn is(document: &Value, media_type: &str) -> Result<()> {
    ensure!(
        document["mediaType"] == media_type,
        "no {media_type}: {document}"
    );
    Ok(())
}
