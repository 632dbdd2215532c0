//! One binary, a module for each topic.
