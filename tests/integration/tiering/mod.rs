//! The crossing: copy, verify, switch, and what happens when something dies.

mod crossing;
