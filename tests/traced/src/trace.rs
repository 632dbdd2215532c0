//! The lines that strace writes, and the calls that they describe.
//!
//! If the calls of other threads interrupt a thread's call, it takes two lines, `<unfinished ...>`
//! and `resumed`. So each call has two events, its begin and its end, even if it takes one line.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// The calls that are traced. Those after a `?` are missing on some machines.
pub const CALLS: &str = "?open,openat,?openat2,?creat,close,?dup,?dup2,dup3,fcntl,write,pwrite64,\
    writev,pwritev,?pwritev2,ftruncate,fallocate,fsync,fdatasync,?rename,?renameat,renameat2,\
    ?unlink,unlinkat,?rmdir,?link,linkat,?mkdir,mkdirat,kill,exit_group";

/// The ending of a call whose end comes later, or never.
const CUT_OFF: [&str; 2] = [" <unfinished ...>", " <detached ...>"];

/// The longest string that strace writes in full.
pub const STRING_LEN_MAX: usize = 16 * 1024 * 1024;

/// Stands for the working directory where a call expects a directory's descriptor.
pub const AT_FDCWD: i32 = -100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Begin {
        thread: u32,
        call: Call,
    },
    /// What the call returned, if that was seen.
    End {
        thread: u32,
        result: Option<i64>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Open {
        place: Place,
        create: bool,
        truncate: bool,
    },
    Close {
        fd: i32,
    },
    Duplicate {
        fd: i32,
    },
    /// Without an offset, after what was written before.
    Write {
        fd: i32,
        at: Option<u64>,
        bytes: Arc<[u8]>,
    },
    SetLen {
        fd: i32,
        len: u64,
    },
    /// Makes the file at least this long.
    Allocate {
        fd: i32,
        len: u64,
    },
    Sync {
        fd: i32,
    },
    MakeFolder {
        place: Place,
    },
    Link {
        from: Place,
        to: Place,
    },
    Rename {
        from: Place,
        to: Place,
    },
    Unlink {
        place: Place,
    },
    /// The process exits by itself.
    Die,
    /// It has no effect on files.
    Other,
}

/// A path, and the open directory that it starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub folder: i32,
    pub path: PathBuf,
}

/// Reads a whole trace.
pub fn parse(trace: &str) -> Result<Vec<Event>, String> {
    let mut events = Vec::new();
    for (line, number) in trace.lines().zip(1..) {
        let parsed = parse_line(line, &mut events);
        parsed.map_err(|error| {
            let start: String = line.chars().take(120).collect();
            format!("line {number} of the trace: {error}: {start}")
        })?;
    }
    doubt_last_ends(&mut events);
    Ok(events)
}

/// When a process dies, strace ends the calls that its threads are in, each with the result of some
/// other call. So a thread's last end after that moment means nothing.
fn doubt_last_ends(events: &mut [Event]) {
    let dies = |event: &Event| matches!(event, Event::Begin { call: Call::Die, .. });
    let Some(death) = events.iter().position(dies) else { return };
    let mut seen = BTreeSet::new();
    for event in events[death..].iter_mut().rev() {
        match event {
            Event::Begin { thread, .. } => {
                seen.insert(*thread);
            }
            Event::End { thread, result } => {
                if seen.insert(*thread) {
                    *result = None;
                }
            }
        }
    }
}

fn parse_line(line: &str, events: &mut Vec<Event>) -> Result<(), String> {
    let (thread, rest) = split_thread(line);
    // Signals, and the ends of threads.
    if rest.is_empty() || rest.starts_with("---") || rest.starts_with("+++") {
        return Ok(());
    }
    if rest.starts_with("<... ") {
        // A call that a kill cut off is resumed and never finished.
        let result = if rest.contains("<unfinished") { None } else { parse_result(rest)? };
        events.push(Event::End { thread, result });
        return Ok(());
    }
    let (name, arguments) = rest.split_once('(').ok_or("it is no call")?;
    // This is how strace says that it doesn't know what a killed thread was about to call.
    if name == "???" {
        return Ok(());
    }
    let cut_off = CUT_OFF.iter().find_map(|mark| arguments.split_once(mark));
    let (arguments, result) = if let Some((arguments, _)) = cut_off {
        (arguments, rest.ends_with("= ?").then_some(None))
    } else {
        let (arguments, _) = arguments.rsplit_once(" = ").ok_or("it has no result")?;
        let arguments = arguments.trim_end().strip_suffix(')').ok_or("its end is missing")?;
        (arguments, Some(parse_result(rest)?))
    };
    events.push(Event::Begin { thread, call: parse_call(name, arguments)? });
    events.extend(result.map(|result| Event::End { thread, result }));
    Ok(())
}

/// The thread comes first, unless there is only one.
fn split_thread(line: &str) -> (u32, &str) {
    line.split_once(' ')
        .and_then(|(thread, rest)| Some((thread.parse().ok()?, rest.trim_start())))
        .unwrap_or((0, line))
}

/// The number behind the last ` = `; `None` instead of a question mark.
fn parse_result(rest: &str) -> Result<Option<i64>, String> {
    let (_, result) = rest.rsplit_once(" = ").ok_or("it has no result")?;
    let result = result.split_whitespace().next().ok_or("its result is empty")?;
    if result == "?" {
        return Ok(None);
    }
    let number = match result.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16),
        None => result.parse(),
    };
    number.map(Some).map_err(|_| format!("`{result}` is no result"))
}

fn parse_call(name: &str, arguments: &str) -> Result<Call, String> {
    let arguments = Arguments::split(arguments);
    let whole = arguments.whole;
    let open = |place, create| Call::Open { place, create, truncate: whole.contains("O_TRUNC") };
    let creates = whole.contains("O_CREAT");
    Ok(match name {
        "open" => open(arguments.place(0)?, creates),
        "openat" | "openat2" => open(arguments.place_at(0)?, creates),
        "creat" => Call::Open { place: arguments.place(0)?, create: true, truncate: true },
        "close" => Call::Close { fd: arguments.number(0)? },
        "dup" | "dup2" | "dup3" => Call::Duplicate { fd: arguments.number(0)? },
        "fcntl" if whole.contains("F_DUPFD") => Call::Duplicate { fd: arguments.number(0)? },
        "write" | "writev" | "pwrite64" | "pwritev" | "pwritev2" => {
            let at = if name.starts_with('p') { Some(arguments.number(3)?) } else { None };
            Call::Write { fd: arguments.number(0)?, at, bytes: arguments.bytes(1)?.into() }
        }
        "ftruncate" => Call::SetLen { fd: arguments.number(0)?, len: arguments.number(1)? },
        "fallocate" => arguments.allocate()?,
        "fsync" | "fdatasync" => Call::Sync { fd: arguments.number(0)? },
        "mkdir" => Call::MakeFolder { place: arguments.place(0)? },
        "mkdirat" => Call::MakeFolder { place: arguments.place_at(0)? },
        "link" => Call::Link { from: arguments.place(0)?, to: arguments.place(1)? },
        "linkat" => Call::Link { from: arguments.place_at(0)?, to: arguments.place_at(2)? },
        "rename" => Call::Rename { from: arguments.place(0)?, to: arguments.place(1)? },
        "renameat2" if whole.contains("RENAME_EXCHANGE") => {
            return Err("an exchange of names is not modelled".to_owned());
        }
        "renameat" | "renameat2" => {
            Call::Rename { from: arguments.place_at(0)?, to: arguments.place_at(2)? }
        }
        "unlink" | "rmdir" => Call::Unlink { place: arguments.place(0)? },
        "unlinkat" => Call::Unlink { place: arguments.place_at(0)? },
        "kill" | "exit_group" => Call::Die,
        _ => Call::Other,
    })
}

/// The arguments of a call, as strace writes them.
struct Arguments<'t> {
    whole: &'t str,
    parts: Vec<&'t str>,
}

impl<'t> Arguments<'t> {
    /// Splits at each comma that isn't within brackets. Strings contain none, since all of their
    /// bytes are written in hex.
    /// its bytes are written in hex.
    fn split(whole: &'t str) -> Self {
        let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
        for (at, byte) in whole.bytes().enumerate() {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                b',' if depth == 0 => {
                    parts.push(whole[start..at].trim());
                    start = at + 1;
                }
                _ => {}
            }
        }
        parts.push(whole[start..].trim());
        Self { whole, parts }
    }

    fn part(&self, at: usize) -> Result<&'t str, String> {
        self.parts.get(at).copied().ok_or_else(|| format!("argument {at} is missing"))
    }

    fn number<T: std::str::FromStr>(&self, at: usize) -> Result<T, String> {
        let part = self.part(at)?;
        part.parse().map_err(|_| format!("`{part}` is no number"))
    }

    /// All strings of an argument, concatenated: a vector of buffers has several.
    fn bytes(&self, at: usize) -> Result<Vec<u8>, String> {
        let part = self.part(at)?;
        if !part.starts_with(['"', '[']) {
            return Err(format!("`{part}` has no bytes"));
        }
        let mut bytes = Vec::new();
        for (string, behind) in part.split('"').skip(1).zip(part.split('"').skip(2)).step_by(2) {
            if behind.starts_with("...") {
                return Err("a string was cut short".to_owned());
            }
            decode(string, &mut bytes)?;
        }
        Ok(bytes)
    }

    fn path(&self, at: usize) -> Result<PathBuf, String> {
        let path = String::from_utf8(self.bytes(at)?);
        path.map(PathBuf::from).map_err(|_| "a path is no text".to_owned())
    }

    fn place(&self, at: usize) -> Result<Place, String> {
        Ok(Place { folder: AT_FDCWD, path: self.path(at)? })
    }

    fn place_at(&self, at: usize) -> Result<Place, String> {
        let folder = if self.part(at)? == "AT_FDCWD" { AT_FDCWD } else { self.number(at)? };
        Ok(Place { folder, path: self.path(at + 1)? })
    }

    fn allocate(&self) -> Result<Call, String> {
        match self.part(1)? {
            "0" => {
                let end = self.number::<u64>(2)? + self.number::<u64>(3)?;
                Ok(Call::Allocate { fd: self.number(0)?, len: end })
            }
            "FALLOC_FL_KEEP_SIZE" => Ok(Call::Other),
            mode => Err(format!("fallocate with {mode} is not modelled")),
        }
    }
}

/// Decodes `\x61\x62`.
fn decode(string: &str, bytes: &mut Vec<u8>) -> Result<(), String> {
    bytes.reserve(string.len() / 4);
    for byte in string.as_bytes().chunks(4) {
        let [b'\\', b'x', high, low] = byte else { return Err("a byte is not in hex".to_owned()) };
        bytes.push(digit(*high)? << 4 | digit(*low)?);
    }
    Ok(())
}

fn digit(digit: u8) -> Result<u8, String> {
    let value = char::from(digit).to_digit(16).ok_or("a digit is not in hex")?;
    Ok(u8::try_from(value).expect("a digit is less than 16"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The call that a line begins, and what it returned.
    fn one(line: &str) -> (u32, Call, Option<i64>) {
        match parse(line).expect("it is a line").as_slice() {
            [Event::Begin { thread, call }, Event::End { thread: same, result }]
                if thread == same =>
            {
                (*thread, call.clone(), *result)
            }
            events => panic!("{events:?}"),
        }
    }

    fn write(fd: i32, at: Option<u64>, bytes: &[u8]) -> Call {
        Call::Write { fd, at, bytes: bytes.into() }
    }

    fn place(folder: i32, path: &str) -> Place {
        Place { folder, path: path.into() }
    }

    #[test]
    fn a_write_has_its_bytes_and_its_place() {
        let line = r#"71  pwrite64(3, "\x68\x22\x2c", 3, 8) = 3"#;
        assert_eq!(one(line), (71, write(3, Some(8), b"h\","), Some(3)));
        assert_eq!(one(r#"71 write(1, "\x0a", 1) = 1"#), (71, write(1, None, b"\n"), Some(1)));
        assert_eq!(one(r#"71 write(1, "", 0) = 0"#), (71, write(1, None, b""), Some(0)));
    }

    #[test]
    fn a_vector_is_one_write() {
        let vector = r#"[{iov_base="\x61\x62", iov_len=2}, {iov_base="\x63", iov_len=1}]"#;
        let line = format!("9 writev(4, {vector}, 2) = 3");
        assert_eq!(one(&line), (9, write(4, None, b"abc"), Some(3)));
        let line = format!("9 pwritev(4, {vector}, 2, 512) = 3");
        assert_eq!(one(&line), (9, write(4, Some(512), b"abc"), Some(3)));
    }

    #[test]
    fn a_call_that_is_cut_in_two_is_one_call() {
        let lines = "5 fdatasync(3 <unfinished ...>\n\
            6 pwrite64(3, \"\\x61\", 1, 8 <unfinished ...>\n\
            5 <... fdatasync resumed>)          = 0\n\
            6 <... pwrite64 resumed>)           = 1\n";
        let expected = [
            Event::Begin { thread: 5, call: Call::Sync { fd: 3 } },
            Event::Begin { thread: 6, call: write(3, Some(8), b"a") },
            Event::End { thread: 5, result: Some(0) },
            Event::End { thread: 6, result: Some(1) },
        ];
        assert_eq!(parse(lines).expect("they are lines"), expected);
    }

    #[test]
    fn a_call_that_a_kill_cuts_off_has_no_result() {
        let begun = || Event::Begin { thread: 5, call: Call::Sync { fd: 3 } };
        let end = || Event::End { thread: 5, result: None };
        let lines = "5 fsync(3 <unfinished ...>\n5 +++ killed by SIGKILL +++\n";
        assert_eq!(parse(lines).expect("they are lines"), [begun()]);
        assert_eq!(parse("5 fsync(3 <detached ...>\n").expect("it is a line"), [begun()]);
        for resumed in ["<... fsync resumed>) = ?", "<... fsync resumed> <unfinished ...>) = ?"] {
            let lines = format!("5 fsync(3 <unfinished ...>\n5 {resumed}\n");
            assert_eq!(parse(&lines).expect("they are lines"), [begun(), end()]);
        }
        for line in ["5 fsync(3) = ?", "5 fsync(3 <unfinished ...>) = ?"] {
            assert_eq!(parse(line).expect("it is a line"), [begun(), end()]);
        }
        assert_eq!(parse("5 ???( <unfinished ...>").expect("it is a line"), []);
    }

    #[test]
    fn what_a_dying_thread_returns_is_not_believed() {
        let lines = "5 write(1, \"\\x61\", 1) = 1\n\
            6 pwrite64(3, \"\\x61\\x62\", 2, 8 <unfinished ...>\n\
            7 fsync(3 <unfinished ...>\n\
            5 kill(5, SIGKILL <unfinished ...>\n\
            7 <... fsync resumed>) = 0\n\
            7 fsync(4 <unfinished ...>\n\
            6 <... pwrite64 resumed>) = 1\n";
        let events = parse(lines).expect("they are lines");
        let results = events.iter().filter_map(|event| match event {
            Event::End { thread, result } => Some((*thread, *result)),
            Event::Begin { .. } => None,
        });
        assert_eq!(results.collect::<Vec<_>>(), [(5, Some(1)), (7, Some(0)), (6, None)]);
    }

    #[test]
    fn files_are_opened_with_what_counts_of_their_flags() {
        let opened = |line| match one(line) {
            (_, Call::Open { place, create, truncate }, result) => {
                (place, create, truncate, result)
            }
            other => panic!("{other:?}"),
        };
        let line = r#"5 openat(AT_FDCWD, "\x2f\x61", O_RDWR|O_CREAT|O_TRUNC|O_CLOEXEC, 0600) = 7"#;
        assert_eq!(opened(line), (place(AT_FDCWD, "/a"), true, true, Some(7)));
        let line = r#"5 openat(6, "\x61", O_RDONLY|O_NOFOLLOW) = -1 ENOENT (No such file)"#;
        assert_eq!(opened(line), (place(6, "a"), false, false, Some(-1)));
        let line = r#"5 openat2(6, "\x61", {flags=O_RDWR|O_CREAT, mode=0600, resolve=0}, 24) = 7"#;
        assert_eq!(opened(line), (place(6, "a"), true, false, Some(7)));
    }

    #[test]
    fn names_are_changed_where_the_call_says() {
        let (from, to) = (place(6, "a"), place(7, "b"));
        let line = r#"5 renameat(6, "\x61", 7, "\x62") = 0"#;
        assert_eq!(one(line).1, Call::Rename { from: from.clone(), to: to.clone() });
        let line = r#"5 renameat2(6, "\x61", 7, "\x62", RENAME_NOREPLACE) = 0"#;
        assert_eq!(one(line).1, Call::Rename { from: from.clone(), to: to.clone() });
        let line = r#"5 linkat(6, "\x61", 7, "\x62", 0) = 0"#;
        assert_eq!(one(line).1, Call::Link { from: from.clone(), to });
        let line = r#"5 unlinkat(6, "\x61", 0) = 0"#;
        assert_eq!(one(line).1, Call::Unlink { place: from.clone() });
        let line = r#"5 mkdirat(6, "\x61", 0700) = 0"#;
        assert_eq!(one(line).1, Call::MakeFolder { place: from });
        let line = r#"5 rename("\x61", "\x62") = 0"#;
        let (from, to) = (place(AT_FDCWD, "a"), place(AT_FDCWD, "b"));
        assert_eq!(one(line).1, Call::Rename { from, to });
    }

    #[test]
    fn lengths_and_copies_of_descriptors() {
        assert_eq!(one("5 ftruncate(3, 4096) = 0").1, Call::SetLen { fd: 3, len: 4096 });
        assert_eq!(one("5 fallocate(3, 0, 8, 4096) = 0").1, Call::Allocate { fd: 3, len: 4104 });
        let copy = one("5 fcntl(3, F_DUPFD_CLOEXEC, 3) = 9");
        assert_eq!((copy.1, copy.2), (Call::Duplicate { fd: 3 }, Some(9)));
        assert_eq!(one("5 fcntl(3, F_GETFL) = 0x2 (flags O_RDWR)").2, Some(2));
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        assert!(parse(r#"5 write(1, "\x61"..., 9000) = 9000"#).is_err());
        assert!(parse("5 write(1, 0x7ffe, 9) = 9 and").is_err());
        assert!(parse("5 fallocate(3, FALLOC_FL_PUNCH_HOLE, 0, 9) = 0").is_err());
    }

    #[test]
    fn what_is_no_call_is_passed_over() {
        let lines = "5 --- SIGCHLD {si_signo=SIGCHLD} ---\n5 +++ exited with 0 +++\n";
        assert_eq!(parse(lines).expect("they are lines"), []);
    }
}
