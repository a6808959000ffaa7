//! One source file, read for what the rules of the house ask about: which paths it names, where it is asynchronous,
//! what it builds.
//!
//! Code under `#[cfg(test)]` is left out: tests may reach anywhere.

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::parse::Parser;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ImplItem, Item, Token, Type, UseTree};

/// A file under `src/` and what it says.
pub struct Source {
    /// Where it lies, relative to `src/`: `domain/build.rs`.
    pub path: String,
    /// Its module path inside the crate: `["domain", "build"]`; empty for a crate root.
    pub module: Vec<String>,
    /// Lines before the first test module at the end, or all lines.
    pub code_lines: usize,
    /// Every path it names outside tests, paths into this crate beginning with `crate`.
    pub mentions: Vec<Mention>,
    /// Lines with an `async` function, block or closure.
    pub asynchronous: Vec<usize>,
    /// Values built by a struct literal, a tuple constructor or its bare name: `Permit`, `Verified`.
    pub built: Vec<Built>,
    /// Modules declared under `#[cfg(test)]` that live in files of their own.
    pub test_modules: Vec<Vec<String>>,
    /// Modules it declares: `mod name;` or `mod name { … }`.
    pub declared: Vec<String>,
}

/// A path, named somewhere.
pub struct Mention {
    /// Its segments; `*` for a glob.
    pub segments: Vec<String>,
    /// The line, counted from 1.
    pub line: usize,
}

/// A value, built somewhere.
pub struct Built {
    /// The name of its type.
    pub name: String,
    /// The line, counted from 1.
    pub line: usize,
}

impl Source {
    /// Reads `text`, the content of the file at `path` (relative to `src/`, with `/`).
    pub fn read(path: &str, text: &str) -> Self {
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("`{path}` is not Rust: {error}"));
        let module = module_of(path);
        let source = Self {
            path: path.to_owned(),
            module: module.clone(),
            code_lines: text.lines().count(),
            mentions: Vec::new(),
            asynchronous: Vec::new(),
            built: Vec::new(),
            test_modules: Vec::new(),
            declared: Vec::new(),
        };
        let mut reader = Reader { source, module, implemented: Vec::new() };
        reader.visit_file(&file);
        reader.source
    }

    /// The room it belongs to: the first part of its path. `lib` and `main` for the crate roots.
    pub fn room(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// Whether it lies in `place`: `proxy` is `proxy.rs` and `proxy/…`, `cli/demo` also `cli/demo_upstream.rs`.
    pub fn lies_in(&self, place: &str) -> bool {
        self.path.strip_prefix(place).is_some_and(|rest| rest.starts_with(['/', '_', '.']))
    }
}

fn module_of(path: &str) -> Vec<String> {
    let mut module: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

struct Reader {
    source: Source,
    /// The module that is being read, inline modules included.
    module: Vec<String>,
    /// The types whose `impl` blocks are open: what `Self` means.
    implemented: Vec<String>,
}

impl Reader {
    /// Records a path; `crate`, `self`, `super` and the crate's own name are resolved to a path from the crate root.
    fn mention(&mut self, segments: &[String], line: usize) {
        let mut rest = segments;
        let mut absolute = match rest.first().map(String::as_str) {
            Some("crate" | "portcullis") => Vec::new(),
            Some("self" | "super") => self.module.clone(),
            _ => {
                self.source.mentions.push(Mention { segments: segments.to_vec(), line });
                return;
            }
        };
        while let Some((first, others)) = rest.split_first() {
            match first.as_str() {
                "crate" | "portcullis" | "self" => {}
                "super" => drop(absolute.pop()),
                _ => break,
            }
            rest = others;
        }
        absolute.insert(0, "crate".to_owned());
        absolute.extend_from_slice(rest);
        self.source.mentions.push(Mention { segments: absolute, line });
    }

    fn mention_tree(&mut self, tree: &UseTree, prefix: &mut Vec<String>) {
        let (name, line) = match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.mention_tree(&path.tree, prefix);
                prefix.pop();
                return;
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.mention_tree(tree, prefix);
                }
                return;
            }
            UseTree::Name(name) => (name.ident.to_string(), line_of(name.ident.span())),
            UseTree::Rename(rename) => (rename.ident.to_string(), line_of(rename.ident.span())),
            UseTree::Glob(glob) => ("*".to_owned(), line_of(glob.star_token.span())),
        };
        prefix.push(name);
        self.mention(prefix, line);
        prefix.pop();
    }

    /// What a macro is given need not be Rust: reads it token by token.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut colons = 0;
        let mut line = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if ident == "async" {
                        self.source.asynchronous.push(line_of(ident.span()));
                    }
                    if colons != 2 {
                        self.mention(&path, line);
                        path.clear();
                        line = line_of(ident.span());
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Group(group) => {
                    self.scan(group.stream());
                    colons = 0;
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => colons = 0,
            }
        }
        self.mention(&path, line);
    }

    fn build(&mut self, path: &syn::Path) {
        let Some(last) = path.segments.last() else { return };
        let name = match self.implemented.last() {
            Some(implemented) if last.ident == "Self" => implemented.clone(),
            _ => last.ident.to_string(),
        };
        self.source.built.push(Built { name, line: line_of(path.span()) });
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test_only(attributes(item)) {
            return visit::visit_item(self, item);
        }
        if let Item::Mod(module) = item {
            if module.content.is_none() {
                let mut path = self.module.clone();
                path.push(module.ident.to_string());
                self.source.test_modules.push(path);
            }
            let first = module.attrs.iter().map(|attribute| line_of(attribute.span())).min().unwrap_or(1);
            self.source.code_lines = self.source.code_lines.min(first - 1);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        match item {
            ImplItem::Fn(function) if is_test_only(&function.attrs) => {}
            _ => visit::visit_impl_item(self, item),
        }
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if self.module == self.source.module {
            self.source.declared.push(module.ident.to_string());
        }
        self.module.push(module.ident.to_string());
        visit::visit_item_mod(self, module);
        self.module.pop();
    }

    fn visit_item_impl(&mut self, block: &'ast syn::ItemImpl) {
        let name = match &*block.self_ty {
            Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
            _ => None,
        };
        self.implemented.push(name.unwrap_or_default());
        visit::visit_item_impl(self, block);
        self.implemented.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.mention_tree(&item.tree, &mut Vec::new());
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        self.mention(&[item.ident.to_string()], line_of(item.ident.span()));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.mention(&segments, line_of(path.span()));
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        match Punctuated::<Expr, Token![,]>::parse_terminated.parse2(call.tokens.clone()) {
            Ok(arguments) => arguments.iter().for_each(|argument| Reader::visit_expr(self, argument)),
            Err(_) => self.scan(call.tokens.clone()),
        }
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        self.source.asynchronous.extend(signature.asyncness.map(|keyword| line_of(keyword.span())));
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.source.asynchronous.push(line_of(block.async_token.span()));
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_closure(&mut self, closure: &'ast syn::ExprClosure) {
        self.source.asynchronous.extend(closure.asyncness.map(|keyword| line_of(keyword.span())));
        visit::visit_expr_closure(self, closure);
    }

    fn visit_expr_struct(&mut self, literal: &'ast syn::ExprStruct) {
        self.build(&literal.path);
        visit::visit_expr_struct(self, literal);
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        self.build(&path.path);
        visit::visit_expr_path(self, path);
    }
}

fn line_of(span: Span) -> usize {
    span.start().line
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// Whether `#[cfg(test)]` or `#[cfg(all(test, …))]` is among the attributes.
fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let condition = attribute.parse_args::<TokenStream>().map(|tokens| tokens.to_string().replace(' ', ""));
        condition.is_ok_and(|condition| condition == "test" || condition.starts_with("all(test,"))
    })
}
