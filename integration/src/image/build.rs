//! Builds the image without a container engine: a layer of Debian packages, a layer with the agent, and what says of
//! them that they are an image.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::layer::Layer;
use super::layout::{CONFIG, LAYER, Layout, MANIFEST};
use super::verify::Image;

/// What the image is made of.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The agent, built for release
    #[arg(long)]
    agent: PathBuf,
    /// The root that `integration/setup/image-root.sh` made
    #[arg(long)]
    root: PathBuf,
    /// The project's licence
    #[arg(long)]
    licence: PathBuf,
    /// As Debian and OCI call it: amd64, arm64
    #[arg(long)]
    architecture: String,
    /// The image's time, seconds since 1970
    #[arg(long, env = "SOURCE_DATE_EPOCH", default_value_t = 0)]
    time: u64,
    /// The commit that the agent is of
    #[arg(long)]
    revision: Option<String>,
    /// By which name a container runtime knows the image that it imports
    #[arg(long, default_value = concat!("docker.io/library/ipvs-agent:", env!("CARGO_PKG_VERSION")))]
    name: String,
    /// The folder of the layout; beside it comes the archive, with `.tar` added
    #[arg(long)]
    to: PathBuf,
}

/// Writes the layout and the archive.
pub fn build(arguments: &Arguments) -> Result<()> {
    let packages = Layer::of(&arguments.root, None)?;
    let tree = arguments.to.with_extension("agent");
    stage(arguments, &tree)?;
    let agent = Layer::of(&tree, Some(arguments.time))?;
    fs::remove_dir_all(&tree)?;
    let layers = [("Debian packages", packages), ("ipvs-agent", agent)];

    let layout = Layout::create(&arguments.to)?;
    let config = config(arguments, &layers)?;
    let config = layout.put_document(CONFIG, &config)?;
    let mut stored = Vec::new();
    for (_, layer) in &layers {
        stored.push(layout.put(LAYER, &layer.compressed)?);
    }
    let manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": stored,
        "annotations": labels(arguments)?,
    });
    let mut manifest = layout.put_document(MANIFEST, &manifest)?;
    manifest["platform"] = json!({ "architecture": arguments.architecture, "os": "linux" });
    manifest["annotations"] = json!({
        "io.containerd.image.name": arguments.name,
        "org.opencontainers.image.ref.name": tag(&arguments.name)?,
    });
    layout.finish(&manifest)?;
    let archive = PathBuf::from(format!("{}.tar", arguments.to.display()));
    layout.archive(&archive)?;

    let image = Image::read(&arguments.to)?;

    println!("{} for linux/{}", arguments.name, arguments.architecture);
    println!("manifest {}", image.digest);
    for (name, layer) in &layers {
        let (unpacked, compressed) = (megabytes(layer.size), megabytes(layer.compressed.len()));
        println!("layer    {unpacked} MB, compressed {compressed} MB: {name}");
    }
    println!("archive  {}", archive.display());
    Ok(())
}

/// The agent's layer as a tree.
fn stage(arguments: &Arguments, tree: &Path) -> Result<()> {
    if tree.exists() {
        fs::remove_dir_all(tree)?;
    }
    let documents = tree.join("usr/share/doc/ipvs-agent");
    fs::create_dir_all(&documents)?;
    fs::create_dir_all(tree.join("usr/local/bin"))?;
    let pairs = [
        (&arguments.agent, tree.join(PROGRAM), 0o755),
        (&arguments.licence, documents.join("copyright"), 0o644),
    ];
    for (from, to, mode) in pairs {
        fs::copy(from, &to).with_context(|| format!("no {}", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode))?;
    }
    for folder in [
        "usr",
        "usr/share",
        "usr/share/doc",
        "usr/share/doc/ipvs-agent",
        "usr/local",
        "usr/local/bin",
    ] {
        fs::set_permissions(tree.join(folder), fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn config(arguments: &Arguments, layers: &[(&str, Layer)]) -> Result<Value> {
    let created = created(arguments)?;
    let diff_ids = layers.iter().map(|(_, layer)| layer.diff_id.to_string());
    let history = layers.iter().map(
        |(name, _)| json!({ "created": created, "created_by": "make image", "comment": name }),
    );
    Ok(json!({
        "created": created,
        "architecture": arguments.architecture,
        "os": "linux",
        "config": {
            "User": "0:0",
            "Env": [format!("PATH={PATH}")],
            "Entrypoint": ["ipvs-agent"],
            "Cmd": ["run"],
            "WorkingDir": "/",
            "StopSignal": "SIGTERM",
            "Labels": labels(arguments)?,
        },
        "rootfs": { "type": "layers", "diff_ids": diff_ids.collect::<Vec<_>>() },
        "history": history.collect::<Vec<_>>(),
    }))
}

fn labels(arguments: &Arguments) -> Result<Value> {
    let mut labels = json!({
        "org.opencontainers.image.title": "ipvs-agent",
        "org.opencontainers.image.description": "A Kubernetes node's service proxy that programs the kernel's IPVS",
        "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.created": created(arguments)?,
    });
    if let Some(revision) = &arguments.revision {
        labels["org.opencontainers.image.revision"] = revision.as_str().into();
    }
    Ok(labels)
}

fn created(arguments: &Arguments) -> Result<String> {
    let seconds = i64::try_from(arguments.time)?;
    Ok(Timestamp::from_second(seconds)?.to_string())
}

fn tag(name: &str) -> Result<&str> {
    let (_, tag) = name
        .rsplit_once(':')
        .context("the image's name has no tag")?;
    ensure!(!tag.contains('/'), "the image's name has no tag: {name}");
    Ok(tag)
}

fn megabytes(bytes: usize) -> String {
    format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10)
}

/// Where the agent is in the image.
pub const PROGRAM: &str = "usr/local/bin/ipvs-agent";
/// Where programs are found in it.
const PATH: &str = "/usr/local/bin:/usr/sbin:/usr/bin";

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// A folder for one test, with a root and an agent in it.
    fn inputs(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("lab-image-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("root/usr/bin")).unwrap();
        std::os::unix::fs::symlink("usr/bin", folder.join("root/bin")).unwrap();
        for file in ["root/usr/bin/tool", "agent", "licence"] {
            fs::write(folder.join(file), file).unwrap();
        }
        at(&folder, 1_000_000);
        folder
    }

    /// Gives the root's files this time.
    fn at(folder: &Path, seconds: u64) {
        for path in ["root/usr/bin/tool", "root/usr/bin", "root/usr"] {
            let file = fs::File::open(folder.join(path)).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds))
                .unwrap();
        }
    }

    fn built(folder: &Path, to: &str) -> Image {
        let arguments = Arguments {
            agent: folder.join("agent"),
            root: folder.join("root"),
            licence: folder.join("licence"),
            architecture: "arm64".to_owned(),
            time: 1_700_000_000,
            revision: Some("abc".to_owned()),
            name: "docker.io/library/ipvs-agent:1".to_owned(),
            to: folder.join(to),
        };
        build(&arguments).unwrap();
        Image::read(&arguments.to).unwrap()
    }

    #[test]
    fn the_same_makes_the_same_image_and_another_byte_another() {
        let folder = inputs("same");
        let first = built(&folder, "first");
        // Another agent of the same content, later.
        fs::remove_file(folder.join("agent")).unwrap();
        fs::write(folder.join("agent"), "agent").unwrap();
        let second = built(&folder, "second");
        assert_eq!(first.digest, second.digest);
        let archive = |name: &str| fs::read(folder.join(name)).unwrap();
        assert_eq!(archive("first.tar"), archive("second.tar"));
        fs::write(folder.join("agent"), "Agent").unwrap();
        let third = built(&folder, "third");
        assert_ne!(first.digest, third.digest);
        assert_eq!(
            first.layers[0], third.layers[0],
            "the packages are the same"
        );
        at(&folder, 2_000_000);
        assert_ne!(third.digest, built(&folder, "fourth").digest);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_is_unpacked_is_what_was_put_in() {
        let folder = inputs("unpacked");
        let image = built(&folder, "image");
        let to = folder.join("to");
        image.unpack(&to).unwrap();
        assert_eq!(
            fs::read_to_string(to.join("bin/tool")).unwrap(),
            "root/usr/bin/tool"
        );
        assert_eq!(fs::read_to_string(to.join(PROGRAM)).unwrap(), "agent");
        let mode = fs::metadata(to.join(PROGRAM)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        assert_eq!(image.config["created"], "2023-11-14T22:13:20Z");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_blob_that_was_changed_and_one_too_many_are_refused() {
        let folder = inputs("refused");
        built(&folder, "image");
        let blobs = folder.join("image/blobs/sha256");
        let refused = || Image::read(&folder.join("image")).unwrap_err().to_string();
        fs::write(blobs.join("00"), "stray").unwrap();
        assert!(refused().contains("named are"), "{}", refused());
        fs::remove_file(blobs.join("00")).unwrap();
        for entry in fs::read_dir(&blobs).unwrap() {
            let path = entry.unwrap().path();
            let was = fs::read(&path).unwrap();
            let mut bytes = was.clone();
            bytes[5] ^= 1;
            fs::write(&path, &bytes).unwrap();
            assert!(refused().contains("blob sha256:"), "{}", refused());
            fs::write(&path, was).unwrap();
        }
        assert!(Image::read(&folder.join("image")).is_ok());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn the_dockerfile_says_the_same() {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let file = fs::read_to_string(tree.join("Dockerfile")).unwrap();
        let version = concat!("ARG VERSION=", env!("CARGO_PKG_VERSION"), "\n");
        for line in [
            version,
            &format!("ENV PATH={PATH}\n"),
            "USER 0:0\n",
            "ENTRYPOINT [\"ipvs-agent\"]\n",
            "CMD [\"run\"]\n",
            &format!(" /agent/{PROGRAM} "),
        ] {
            assert!(file.contains(line), "no {line:?}");
        }
        let folder = inputs("dockerfile");
        let image = built(&folder, "image");
        for (name, value) in image.config["config"]["Labels"].as_object().unwrap() {
            let value = value.as_str().unwrap();
            let said = match name.rsplit('.').next() {
                // By whoever builds, and by the engine.
                Some("version" | "revision") => format!("{name}=$"),
                Some("created") => continue,
                _ => format!("{name}={value}"),
            };
            assert!(file.replace('"', "").contains(&said), "no {said}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
