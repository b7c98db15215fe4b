//! The images that nothing is pulled for: made here of what the machine has, under the names that manifests ask for.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::image::layer::Layer;
use crate::image::layout::{CONFIG, LAYER, Layout, MANIFEST};

/// Writes them as archives into a folder.
pub fn make(work: &Path, coredns: &Path, to: &Path) -> Result<()> {
    let root = work.join("busybox");
    busybox(&root)?;
    // Until somebody ends it.
    let waits = ["/bin/sleep", "2147483647"];
    image(
        work,
        &root,
        "registry.k8s.io/pause:3.10",
        &waits,
        &to.join("pause.tar"),
    )?;
    let shell = ["/bin/sh"];
    image(
        work,
        &root,
        "docker.io/library/busybox:1.37",
        &shell,
        &to.join("busybox.tar"),
    )?;
    let root = work.join("coredns");
    fs::create_dir_all(&root)?;
    fs::copy(coredns, root.join("coredns"))?;
    let name = "registry.k8s.io/coredns/coredns:v1.14.2";
    image(work, &root, name, &["/coredns"], &to.join("coredns.tar"))
}

/// Debian's busybox, which needs no library, under each of its names.
fn busybox(root: &Path) -> Result<()> {
    let bin = root.join("bin");
    for folder in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::copy("/bin/busybox", bin.join("busybox")).context("no busybox; `make deps` installs it")?;
    let listed = Command::new("/bin/busybox").arg("--list").output()?;
    for name in String::from_utf8_lossy(&listed.stdout).lines() {
        if name != "busybox" {
            symlink("busybox", bin.join(name))?;
        }
    }
    ensure!(bin.join("httpd").exists(), "a busybox without httpd");
    fs::write(root.join("etc/nsswitch.conf"), "hosts: files dns\n")?;
    Ok(())
}

fn image(work: &Path, root: &Path, name: &str, command: &[&str], to: &Path) -> Result<()> {
    let layer = Layer::of(root, Some(0))?;
    let layout = Layout::create(&work.join("layout"))?;
    let config = layout.put_document(
        CONFIG,
        &json!({
            "architecture": architecture(), "os": "linux",
            "config": { "Env": ["PATH=/bin"], "Entrypoint": command },
            "rootfs": { "type": "layers", "diff_ids": [layer.diff_id.to_string()] },
        }),
    )?;
    let stored = layout.put(LAYER, &layer.compressed)?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [stored],
    });
    let mut manifest = layout.put_document(MANIFEST, &manifest)?;
    manifest["annotations"] = json!({ "io.containerd.image.name": name });
    layout.finish(&manifest)?;
    layout.archive(to)
}

/// This machine's, as images have it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
