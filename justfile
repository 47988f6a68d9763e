# The commands of a working day. Everything builds in the release profile, so that demo, tests and
# lints share one set of dependencies.

# List the recipes.
default:
    @just --list

# Everything that must hold before a change is done.
check: format clippy docs deny test

# The layout of the code is what rustfmt makes of it.
format:
    cargo fmt --all --check

# No lint is left standing, in tests, benches and examples either.
clippy:
    cargo clippy --release --workspace --all-targets --locked -- -D warnings

# All tests of both packages.
test *args:
    cargo test --release --workspace --locked {{ args }}

# All benches, or those whose name contains a given text. The bench profile inherits from release.
bench *filter:
    cargo bench --workspace --locked --bench '*' -- {{ filter }}

# Train on the bundled orders, serve, and ask for one customer. `just demo --exit` ends after it.
demo *args:
    cargo run --release --locked -- demo {{ args }}

# The API pages of both packages, without broken links.
docs:
    RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --locked

# Advisories, licences, banned crates and sources of the dependencies (needs cargo-deny).
deny:
    cargo deny --workspace --locked check

# Faults in large numbers: power cuts, failing disks, damage, and a thousand swaps under load.
soak:
    cargo test --release -p habitus --lib store:: -- --ignored --nocapture --skip write_sample
    cargo test --release -p habitus --test it -- --ignored --nocapture many_swaps_under_load a_damaged_version_is_told_large
