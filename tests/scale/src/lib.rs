//! Databases of any number of files, made by SQL, and the operations whose cost must not depend on that number: shared by
//! the benchmark `scale`, which measures their time, and by a test, which measures the work of the database.

pub mod api;
pub mod operations;
pub mod rows;
