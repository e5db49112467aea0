//! Migrations are embedded in the binary: a new migration must trigger a rebuild.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
