//! The laboratory: programs with policies in one machine, storms of asks over them, and what became
//! of it as a timeline, in JSON and as a page with pictures.

pub mod experiment;
pub mod legend;
pub mod page;
pub mod picture;
pub mod scenario;
pub mod timeline;
