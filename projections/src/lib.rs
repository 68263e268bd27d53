//! Facts and folds
