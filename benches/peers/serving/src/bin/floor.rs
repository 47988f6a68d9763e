//! The floor with the system's allocator.

fn main() {
    habitus_serving_bench::floor::main();
}
