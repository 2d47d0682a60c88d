//! Rate limits: policy, arithmetic, stores, answers.

pub mod window;
