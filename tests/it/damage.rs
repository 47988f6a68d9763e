//! Damaged versions: a file that was cut short, or of which a bit was flipped, is refused by its name.

use habitus::registry::{Registry, RegistryError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::{Path, PathBuf};

const NAME: &str = "example";
const CHECKED: [&str; 3] = ["manifest.json", "parameters.json", "SHA256SUMS"];

/// The shipped version in a registry of its own, and its name.
fn example() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models").join(NAME);
    let version = std::fs::read_to_string(shipped.join("aliases/production")).unwrap();
    let version = version.trim().to_owned();
    let to = directory.path().join(NAME).join(&version);
    std::fs::create_dir_all(&to).unwrap();
    for file in std::fs::read_dir(shipped.join(&version)).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    (directory, version)
}

/// Loads the version with another content of one of its files, which is then put back. True where
/// the damage was told; otherwise the version is what it was.
fn is_told(registry: &Registry, version: &str, path: &PathBuf, damaged: &[u8], what: &str) -> bool {
    let sound = registry.load(NAME, version).unwrap();
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, damaged).unwrap();
    let loaded = registry.load(NAME, version);
    std::fs::write(path, bytes).unwrap();
    match loaded {
        Ok(loaded) => {
            assert_eq!(loaded.manifest, sound.manifest, "{what}");
            assert_eq!(loaded.version, sound.version, "{what}");
            false
        }
        Err(RegistryError::Damaged { path, .. }) => {
            assert!(path.starts_with(registry.root()), "{what}: {}", path.display());
            true
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

/// Damages each file so many times, and returns how often nobody was told.
fn damage(seed: u64, n_cuts: Option<usize>, n_flips: usize) -> (usize, usize) {
    let (directory, version) = example();
    let registry = Registry::open(directory.path());
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut attempts, mut untold) = (0, 0);
    for name in CHECKED {
        let path = directory.path().join(NAME).join(&version).join(name);
        let bytes = std::fs::read(&path).unwrap();
        let lengths: Vec<usize> = match n_cuts {
            None => (0..bytes.len()).collect(),
            Some(n) => (0..n).map(|_| rng.gen_range(0..bytes.len())).collect(),
        };
        for length in lengths {
            let what = format!("{name} cut to {length} bytes");
            attempts += 1;
            let told = is_told(&registry, &version, &path, &bytes[..length], &what);
            // The lines behind the manifest's own are of files that no answer needs.
            assert!(told || name == "SHA256SUMS", "{what}");
            untold += usize::from(!told);
        }
        for _ in 0..n_flips {
            let bit = rng.gen_range(0..bytes.len() * 8);
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let what = format!("{name} with bit {bit} flipped");
            attempts += 1;
            let told = is_told(&registry, &version, &path, &damaged, &what);
            assert!(told || name == "SHA256SUMS", "{what}");
            untold += usize::from(!told);
        }
    }
    (attempts, untold)
}

#[test]
fn a_damaged_version_is_told() {
    let (attempts, untold) = damage(7, Some(40), 80);
    assert!(attempts == 360 && untold < attempts / 3, "{untold} of {attempts}");
}

#[test]
#[ignore = "takes minutes; `just soak` runs it"]
fn a_damaged_version_is_told_large() {
    let (attempts, untold) = damage(1_000_000, None, 5_000);
    println!("{attempts} damaged versions; {untold} were what they had been");
}
