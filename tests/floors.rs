//! The floors of the house: who imports whom in src.
//!
//! `src/lib.rs`, `src/engine/mod.rs` and `src/engine/cuda/mod.rs` list their modules in the order of imports, top floor
//! first, in the first text block of their documentation: the names before two spaces of each line; `mod` is the folder's
//! own file. All paths in the code, of `use` and inline, say which file imports which. Then no file may import itself by
//! way of others, and no import may go up a floor or stay on it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module's path, without `crate`.
type Module = Vec<String>;

/// The text of each module that is a file.
type Tree = BTreeMap<Module, String>;

/// The modules that each file imports, with the path that says so.
type Imports = BTreeMap<Module, BTreeMap<Module, String>>;

fn module(path: &str) -> Module {
    path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn read(folder: &Path, prefix: &Module, tree: &mut Tree) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let mut own = prefix.clone();
        if !matches!(name, "mod" | "lib") {
            own.push(name.to_owned());
        }
        if path.is_dir() {
            read(&path, &own, tree);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tree.insert(own, std::fs::read_to_string(path).unwrap());
        }
    }
}

/// Reads the paths of one file.
struct Reader<'a> {
    tree: &'a Tree,
    file: &'a Module,
    imports: BTreeMap<Module, String>,
}

impl Reader<'_> {
    /// Notes a path that stands in module `here`: the file itself, or a module within it.
    fn note(&mut self, here: &Module, path: &[String], aliases: &BTreeMap<String, Module>) {
        let mut at = match path[0].as_str() {
            "crate" => Vec::new(),
            "self" | "super" => here.clone(),
            first => match aliases.get(first) {
                Some(module) => module.clone(),
                None => [&here[..], &[first.to_owned()]].concat(),
            },
        };
        for (index, name) in path.iter().enumerate() {
            match name.as_str() {
                "super" => drop(at.pop()),
                "crate" | "self" => {}
                _ if index == 0 => {}
                name => at.push(name.to_owned()),
            }
        }
        // The longest beginning that is a file.
        let file = (0..=at.len()).rev().map(|len| at[..len].to_vec()).find(|module| self.tree.contains_key(module));
        let Some(file) = file else { return };
        // Another crate's path, or a type's, leads to no module below this one.
        let is_ours = matches!(path[0].as_str(), "crate" | "self" | "super") || aliases.contains_key(&path[0]);
        if file != *self.file && (is_ours || file.len() > here.len()) {
            self.imports.entry(file).or_insert_with(|| path.join("::"));
        }
    }

    /// Paths of a `use` tree behind `prefix`; what it names is known by that name from now on, if it is a module.
    fn use_tree(
        &mut self,
        tokens: &[TokenTree],
        prefix: &[String],
        here: &Module,
        aliases: &mut BTreeMap<String, Module>,
    ) {
        let mut path = prefix.to_vec();
        for (index, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Ident(ident) if ident == "as" => break,
                TokenTree::Ident(ident) => path.push(ident.to_string()),
                TokenTree::Group(group) => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    for tree in inner.split(|token| matches!(token, TokenTree::Punct(p) if p.as_char() == ',')) {
                        if !tree.is_empty() {
                            self.use_tree(tree, &path, here, aliases);
                        }
                    }
                    return;
                }
                TokenTree::Punct(_) if index + 1 == tokens.len() => path.push("*".into()),
                _ => {}
            }
        }
        self.note(here, &path, aliases);
        let mut full = match path[0].as_str() {
            "crate" => Vec::new(),
            _ => here.clone(),
        };
        for name in &path {
            match name.as_str() {
                "super" => drop(full.pop()),
                "crate" | "self" => {}
                name => full.push(name.to_owned()),
            }
        }
        if self.tree.contains_key(&full)
            && let Some(name) = full.last()
        {
            aliases.insert(name.clone(), full.clone());
        }
    }

    fn tokens(&mut self, stream: TokenStream, here: &Module, mut aliases: BTreeMap<String, Module>) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        let ident = |at: usize| match tokens.get(at) {
            Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
            _ => None,
        };
        let punct = |at: usize, want: char| matches!(tokens.get(at), Some(TokenTree::Punct(p)) if p.as_char() == want);
        let mut at = 0;
        while at < tokens.len() {
            match (&tokens[at], ident(at).as_deref()) {
                (_, Some("use")) => {
                    let end = (at..tokens.len()).find(|&end| punct(end, ';')).unwrap_or(tokens.len());
                    self.use_tree(&tokens[at + 1..end], &[], here, &mut aliases);
                    at = end;
                }
                // Visibility: `pub(in path)` imports nothing.
                (_, Some("pub")) if matches!(tokens.get(at + 1), Some(TokenTree::Group(_))) => at += 1,
                // A module within the file; one that is a file is read by itself.
                (_, Some("mod")) if matches!(tokens.get(at + 2), Some(TokenTree::Group(_))) => {
                    let Some(TokenTree::Group(body)) = tokens.get(at + 2) else { continue };
                    let inner = [&here[..], &[ident(at + 1).unwrap()]].concat();
                    self.tokens(body.stream(), &inner, BTreeMap::new());
                    at += 2;
                }
                (TokenTree::Group(group), _)
                    if group.delimiter() != Delimiter::Bracket || !punct(at.max(1) - 1, '#') =>
                {
                    self.tokens(group.stream(), here, aliases.clone());
                }
                // Not the middle of a path, nor a method.
                (_, Some(first)) if !(at > 0 && (punct(at - 1, ':') || punct(at - 1, '.'))) => {
                    let mut path = vec![first.to_owned()];
                    while punct(at + 1, ':') && punct(at + 2, ':') && ident(at + 3).is_some() {
                        path.extend(ident(at + 3));
                        at += 3;
                    }
                    if path.len() > 1 {
                        self.note(here, &path, &aliases);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }
}

fn imports(tree: &Tree) -> Imports {
    let of_file = |(file, text): (&Module, &String)| {
        let mut reader = Reader { tree, file, imports: BTreeMap::new() };
        reader.tokens(TokenStream::from_str(text).unwrap(), file, BTreeMap::new());
        (file.clone(), reader.imports)
    };
    tree.iter().map(of_file).collect()
}

/// The floor of each module in the list of a file's documentation, counted from the top; `None`: no list.
fn floors(text: &str) -> BTreeMap<String, usize> {
    let lines =
        text.lines().map_while(|line| line.strip_prefix("//!")).map(|line| line.strip_prefix(' ').unwrap_or(line));
    let list =
        lines.skip_while(|line| !line.starts_with("```text")).skip(1).take_while(|line| !line.starts_with("```"));
    let names = |line: &str| -> Vec<String> {
        line.split("  ").next().unwrap_or("").split_whitespace().map(str::to_owned).collect()
    };
    list.enumerate().flat_map(|(floor, line)| names(line).into_iter().map(move |name| (name, floor))).collect()
}

/// Imports that go up a floor of the list in `folder`'s own file, or stay on it, and modules that the list lacks.
fn wrong_floors(tree: &Tree, folder: &Module) -> Vec<String> {
    let floors = floors(&tree[folder]);
    let child = |module: &Module| match module.strip_prefix(&folder[..]) {
        Some([]) => Some("mod".to_owned()),
        Some([child, ..]) => Some(child.clone()),
        None => None,
    };
    let mut wrong = Vec::new();
    let children: BTreeSet<String> = tree.keys().filter_map(child).filter(|name| name != "mod").collect();
    let listed: BTreeSet<String> = floors.keys().filter(|name| *name != "mod").cloned().collect();
    for name in children.symmetric_difference(&listed) {
        wrong.push(format!("{name}: not a module, or not in the list"));
    }
    // A file that is not in the list is above all floors.
    let floor = |name: &String| floors.get(name).map_or(-1, |&floor| floor as i64);
    for (file, imported) in imports(tree) {
        let Some(from) = child(&file) else { continue };
        for (module, path) in imported {
            if let Some(to) = child(&module).filter(|to| *to != from && floor(to) <= floor(&from)) {
                wrong.push(format!("{} imports {to}, which is not below it: {path}", file.join("::")));
            }
        }
    }
    wrong
}

/// The files of a loop of imports, if there is one.
fn cycle(imports: &Imports) -> Option<Vec<String>> {
    fn visit(file: &Module, imports: &Imports, open: &mut Vec<Module>, done: &mut BTreeSet<Module>) -> Option<usize> {
        if let Some(begin) = open.iter().position(|known| known == file) {
            return Some(begin);
        }
        if done.contains(file) {
            return None;
        }
        open.push(file.clone());
        let found = imports[file].keys().find_map(|next| visit(next, imports, open, done));
        if found.is_none() {
            done.extend(open.pop());
        }
        found
    }
    let (mut open, mut done) = (Vec::new(), BTreeSet::new());
    let begin = imports.keys().find_map(|file| visit(file, imports, &mut open, &mut done))?;
    let mut files: Vec<String> = open[begin..].iter().map(|file| file.join("::")).collect();
    files.sort();
    Some(files)
}

fn source() -> Tree {
    let mut tree = Tree::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &Vec::new(), &mut tree);
    tree
}

fn fixture(files: &[(&str, &str)]) -> Tree {
    files.iter().map(|(path, text)| (module(path), (*text).to_owned())).collect()
}

#[test]
fn no_file_imports_itself_by_whatever_way() {
    let tree = source();
    let imports = imports(&tree);
    // An inline path by a name of a `use`.
    assert!(imports[&module("session")].contains_key(&module("engine::open")));
    assert_eq!(cycle(&imports), None);
}

#[test]
fn every_import_goes_down() {
    let tree = source();
    for folder in ["", "engine", "engine::cuda"] {
        assert_eq!(wrong_floors(&tree, &module(folder)), Vec::<String>::new(), "{folder}");
    }
}

/// One import upward is found, in whatever way it is written.
#[test]
fn an_upward_import_fails() {
    let list =
        "//! ```text\n//! roof\n//! room  cellar's neighbour\n//! cellar\n//! ```\nmod cellar; mod roof; mod room;";
    for (upward, file) in [
        ("use crate::roof::Tile;", "cellar"),
        ("use crate::{cellar::{self}, roof::{Tile, Beam}};", "room"),
        ("fn f() { super::roof::leak() }", "cellar"),
        ("fn f() { let x = vec![crate::roof::Tile::new()]; }", "cellar"),
        ("mod tests { use super::super::roof::*; }", "cellar"),
        ("use crate::roof; fn f() { roof::leak() }", "room"),
        ("fn f() -> Option<Box<dyn crate::roof::Leak>> { None }", "cellar"),
    ] {
        let mut tree = fixture(&[("", list), ("roof", "use crate::room::Door;"), ("room", ""), ("cellar", "")]);
        assert_eq!(wrong_floors(&tree, &module("")), Vec::<String>::new());
        tree.insert(module(file), upward.to_owned());
        let wrong = wrong_floors(&tree, &module(""));
        assert!(wrong.len() == 1 && wrong[0].contains("roof"), "{upward}: {wrong:?}");
    }
    let missing = fixture(&[("", list), ("roof", ""), ("cellar", "")]);
    assert_eq!(wrong_floors(&missing, &module("")).len(), 1);
}

#[test]
fn a_loop_of_imports_fails() {
    let mut tree = fixture(&[
        ("", "mod a; mod b;"),
        ("a", "use crate::b::inner::C;"),
        ("b", "mod inner; pub use inner::C;"),
        ("b::inner", "use std::fmt; pub struct C;"),
    ]);
    assert_eq!(cycle(&imports(&tree)), None);
    tree.insert(module("b::inner"), "use super::helper; pub struct C;".to_owned());
    assert_eq!(cycle(&imports(&tree)), Some(vec!["b".to_owned(), "b::inner".to_owned()]));
    tree.insert(module("b::inner"), "pub struct C(crate::a::D);".to_owned());
    assert!(cycle(&imports(&tree)).is_some());
}
