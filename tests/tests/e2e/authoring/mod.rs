//! Writing plugins: new projects in each language, their recorded cases, what is in a package, and serving while one writes.

mod cases;
mod dev;
mod inspect;
mod projects;
mod scripted;
