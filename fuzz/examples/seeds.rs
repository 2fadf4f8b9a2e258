//! Writes the files that the corpus of `load` begins with: `cargo run --example seeds FOLDER`, with patchmask-fuzz's flags.
fn main() {
    let folder = std::env::args().nth(1).expect("a folder");
    for (number, file) in patchmask_fuzz::models::files().iter().enumerate() {
        std::fs::write(format!("{folder}/model{number}"), file.bytes()).expect("written");
    }
}
