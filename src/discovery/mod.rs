mod book;
mod cache;
mod choice;
mod own;
mod rules;
mod shelf;
