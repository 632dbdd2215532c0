//! A chapter, as its blocks of code.

/// A block of code between fences.
pub struct Block {
    /// The heading above it.
    pub heading: &'static str,
    /// The words after the fence: the language first.
    pub info: &'static str,
    pub text: String,
}

/// All blocks of a chapter, in their order.
pub fn blocks(chapter: &'static str) -> Vec<Block> {
    let (mut blocks, mut heading, mut open) = (Vec::new(), "", None::<Block>);
    for line in chapter.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some(Block { heading, info, text: String::new() }),
            (None, None) => heading = line.strip_prefix("## ").unwrap_or(heading),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

/// The one block under this heading that begins like this.
pub fn block(chapter: &'static str, heading: &str, begins: &str) -> String {
    let mut found = blocks(chapter);
    found.retain(|block| block.heading == heading && block.text.starts_with(begins));
    assert_eq!(found.len(), 1, "blocks of {heading} that begin with {begins}");
    found.swap_remove(0).text
}

/// The one block of a language.
pub fn of_language(chapter: &'static str, language: &str) -> String {
    let mut found = blocks(chapter);
    found.retain(|block| block.info == language);
    assert_eq!(found.len(), 1, "blocks of {language}");
    found.swap_remove(0).text
}
