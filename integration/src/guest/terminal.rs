//! A real terminal: `tmux`, driven by keys and read off its screen.

use std::process::Command;

use anyhow::{Result, bail};

use super::wait::eventually;
use super::{sh, tool};

/// A terminal with a shell in it; gone when dropped.
pub struct Terminal {
    socket: String,
}

impl Terminal {
    /// One of this size.
    pub fn open(name: &str, width: u16, height: u16) -> Result<Self> {
        pseudo_terminals()?;
        let terminal = Self {
            socket: format!("/run/tmux-{name}"),
        };
        let (width, height) = (width.to_string(), height.to_string());
        let size = ["new-session", "-d", "-x", &width, "-y", &height];
        // A prompt that is known, and no files of whoever runs the lab.
        let shell = [
            "env",
            "-i",
            "PATH=/run/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PS1=ready> ",
        ];
        let shell = [&shell[..], &["TERM=screen-256color", "sh"]].concat();
        terminal.tmux(&[&size[..], &shell].concat())?;
        Ok(terminal)
    }

    /// What is on the screen, a line each.
    pub fn screen(&self) -> Result<Vec<String>> {
        let text = self.tmux(&["capture-pane", "-p"])?;
        Ok(text
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect())
    }

    /// Types a line.
    pub fn enter(&self, line: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", line])?;
        self.key("Enter")
    }

    /// Presses a key by the name that tmux has for it.
    pub fn key(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key])?;
        Ok(())
    }

    /// Waits until the screen is as it should be, and gives it.
    pub fn shows(&self, what: &str, wanted: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
        let mut shown = Vec::new();
        eventually(what, || {
            shown = self.screen()?;
            Ok(if wanted(&shown) {
                Ok(())
            } else {
                Err(format!("\n{}", shown.join("\n")))
            })
        })?;
        Ok(shown)
    }

    /// What a program may have changed of the terminal: the screen in use, the cursor, the line discipline.
    pub fn modes(&self) -> Result<String> {
        let format = "#{alternate_on} #{cursor_flag} #{mouse_any_flag} #{pane_tty}";
        let modes = self.tmux(&["display-message", "-p", format])?;
        let Some((modes, tty)) = modes.trim().rsplit_once(' ') else {
            bail!("odd modes {modes:?}");
        };
        Ok(format!("{modes} {}", sh(&format!("stty -a -F {tty}"))?))
    }

    /// The process of this name on it.
    pub fn process(&self, name: &str) -> Result<u32> {
        let tty = self.tmux(&["display-message", "-p", "#{pane_tty}"])?;
        let tty = tty.trim().trim_start_matches("/dev/");
        Ok(sh(&format!("pgrep -t {tty} -x {name}"))?.trim().parse()?)
    }

    fn tmux(&self, words: &[&str]) -> Result<String> {
        let common = ["-S", &self.socket, "-f", "/dev/null"];
        tool("tmux", &[&common[..], words].concat())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

/// A guest has none until they are mounted.
fn pseudo_terminals() -> Result<()> {
    if Command::new("mountpoint")
        .args(["-q", "/dev/pts"])
        .status()?
        .success()
    {
        return Ok(());
    }
    sh("mkdir -p /dev/pts")?;
    sh("mount -t devpts -o ptmxmode=0666 devpts /dev/pts")?;
    Ok(())
}
