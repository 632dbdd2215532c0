//! The blocks of a document.

/// Words after `rust` that change what rustdoc does, but nothing about what is pasted.
const KNOWN: [&str; 3] = ["ignore", "no_run", "should_panic"];

/// What a reader does with a block.
#[derive(PartialEq, Eq)]
pub enum Kind {
    /// It is pasted into a new file.
    Whole,
    /// It is this file in `src` of a program with several, as its first line says: `//
    /// src/bank.rs`.
    File(String),
    /// Nothing: it is ignored, and shows a part of a file that is elsewhere in the document as a
    /// whole.
    Excerpt,
}

/// A block of Rust.
pub struct Block {
    /// The path of its document, from the root of the repository.
    pub document: String,
    /// The line of its fence, starting at 1.
    pub line: usize,
    /// The name of the file that it is pasted into.
    pub name: String,
    pub kind: Kind,
    pub code: String,
}

pub struct Document {
    pub name: String,
    pub blocks: Vec<Block>,
    /// The errors in its fences.
    pub faults: Vec<String>,
}

impl Document {
    pub fn read(name: &str, text: &str) -> Self {
        let mut document = Self { name: name.to_owned(), blocks: Vec::new(), faults: Vec::new() };
        let mut lines = (1..).zip(text.lines());
        while let Some((line, text)) = lines.next() {
            let Some(info) = text.trim_start().strip_prefix("```") else { continue };
            let inside = lines.by_ref().map(|(_, text)| text);
            let inside = inside.take_while(|text| !text.trim_start().starts_with("```"));
            let code: String = inside.flat_map(|text| [text, "\n"]).collect();
            document.add(line, info, code);
        }
        document
    }

    fn add(&mut self, line: usize, info: &str, code: String) {
        let at = format!("{}, line {line}", self.name);
        let mut words = info.split([',', ' ']).filter(|word| !word.is_empty());
        match words.next() {
            Some("rust") => {}
            Some(_) => return,
            None => return self.faults.push(format!("{at}: rustdoc takes this block for Rust")),
        }
        let words: Vec<_> = words.collect();
        for word in words.iter().filter(|word| !KNOWN.contains(word)) {
            self.faults
                .push(format!("{at}: the test does not know what `{word}` means for a paste"));
        }
        let stem =
            self.name.rsplit('/').next().expect("it has a last part").trim_end_matches(".md");
        let name = format!("{}_{}", stem.replace('-', "_").to_lowercase(), self.blocks.len() + 1);
        let file = code.lines().next().and_then(|first| first.strip_prefix("// src/"));
        let kind = match file {
            Some(file) => Kind::File(file.to_owned()),
            None if words.contains(&"ignore") => Kind::Excerpt,
            None => Kind::Whole,
        };
        self.blocks.push(Block { document: self.name.clone(), line, name, kind, code });
    }

    /// Where its excerpts are whose contents are in no other block.
    pub fn strange_excerpts(&self) -> Vec<String> {
        let lines = |block: &Block| -> String {
            block.code.lines().flat_map(|line| ["\n", line.trim()]).chain(["\n"]).collect()
        };
        let (excerpts, files): (Vec<_>, Vec<_>) =
            self.blocks.iter().partition(|block| block.kind == Kind::Excerpt);
        let files: Vec<_> = files.into_iter().map(lines).collect();
        let is_strange = |block: &&&Block| files.iter().all(|file| !file.contains(&lines(block)));
        excerpts.iter().filter(is_strange).map(|block| block.at()).collect()
    }
}

impl Block {
    /// Where the block is, for a message.
    pub fn at(&self) -> String {
        format!("{}, line {}", self.document, self.line)
    }

    /// Lines that rustdoc compiles and doesn't show, each with its place. Attributes don't count.
    pub fn hidden_lines(&self) -> Vec<String> {
        let lines = (self.line + 1..).zip(self.code.lines());
        let is_hidden = |text: &str| text == "#" || text.starts_with("# ");
        let hidden = lines.filter(|(_, text)| is_hidden(text.trim_start()));
        hidden.map(|(line, text)| format!("{}, line {line}: {text}", self.document)).collect()
    }

    /// Whether it is a program. If not, it is one file of a program.
    pub fn is_program(&self) -> bool {
        let starts = ["fn main(", "async fn main(", "pub fn main(", "pub async fn main("];
        self.code.lines().any(|line| starts.iter().any(|start| line.starts_with(start)))
    }
}

#[test]
fn hidden_lines_are_told_from_attributes() {
    let text = "```rust\n#![forbid(unsafe_code)]\n# use a::B;\n#[test]\n    # b();\n#\n## c\n```\n";
    let document = Document::read("x.md", text);
    let [block] = document.blocks.as_slice() else { panic!("it has one block") };
    let wanted = ["x.md, line 3: # use a::B;", "x.md, line 5:     # b();", "x.md, line 6: #"];
    assert_eq!(block.hidden_lines(), wanted);
}

#[test]
fn blocks_are_told_by_their_fences() {
    let text = "a\n```rust,no_run\nfn main() {}\n```\n```toml\n# b\n```\n```\nlet c;\n```\n\
                ```rust,file=src/d.rs\npub fn d() {}\n```\n";
    let document = Document::read("docs/a-b.md", text);
    let blocks: Vec<_> =
        document.blocks.iter().map(|it| (it.name.as_str(), it.line, it.is_program())).collect();
    assert_eq!(blocks, [("a_b_1", 2, true), ("a_b_2", 11, false)]);
    assert_eq!(document.faults.len(), 2, "{:?}", document.faults);
}

#[test]
fn an_excerpt_is_a_part_of_a_file() {
    let text = "```rust,ignore\n// src/b.rs\nfn b() {\n    c();\n    d();\n}\n```\n\
                ```rust,ignore\nc();\nd();\n```\n```rust,ignore\nc()\n```\n";
    let document = Document::read("x.md", text);
    assert!(document.blocks[0].kind == Kind::File("b.rs".to_owned()));
    assert_eq!(document.strange_excerpts(), ["x.md, line 12"]);
}
