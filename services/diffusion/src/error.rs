//! What the crate refuses, and why.

/// Every way in which a schedule, a step or a loop can be refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DiffusionError {
    /// The text of a scheduler configuration is not the JSON that was expected.
    #[error("scheduler configuration cannot be read: {reason}")]
    Config {
        /// What the JSON reader said.
        reason: String,
    },
    /// A known option has a value that this crate does not implement.
    #[error("scheduler option {option} = {value} is not supported{hint}")]
    Unsupported {
        /// Key of the option in `scheduler_config.json`.
        option: &'static str,
        /// Its value.
        value: String,
        /// What would be accepted, starting with a separator; may be empty.
        hint: &'static str,
    },
    /// The name of a scheduler is not known.
    #[error("scheduler {name:?} is not known; choose one of {accepted}")]
    UnknownScheduler {
        /// The name as given.
        name: String,
        /// The names that lead to an image, with commas between them.
        accepted: String,
    },
    /// The name of a noise source is not known.
    #[error("noise source {name:?} is not known; choose chacha20, torch-cpu or torch-cuda")]
    UnknownNoise {
        /// The name as given.
        name: String,
    },
    /// A sample is too small for a mark in its noise.
    #[error("a sample of {values} values has no room for a watermark, which needs {values_min}")]
    WatermarkRoom {
        /// Values of the sample.
        values: usize,
        /// Fewest values that carry one.
        values_min: usize,
    },
    /// A text is no id of a watermark.
    #[error("watermark id {text:?} is not ten lower-case hexadecimal digits")]
    WatermarkId {
        /// The text as given.
        text: String,
    },
    /// An image-to-image strength is outside 0..=1, or leaves nothing to do.
    #[error(
        "strength {strength} with {steps} steps refused: it lies between 0 and 1, and strength times steps is 1 or more"
    )]
    Strength {
        /// What was asked for.
        strength: f64,
        /// Steps of the plan.
        steps: usize,
    },
    /// The number of inference steps is outside what the schedule can serve.
    #[error("{steps} inference steps refused: between 1 and {steps_max} are possible")]
    Steps {
        /// What was asked for.
        steps: usize,
        /// The largest possible number.
        steps_max: usize,
    },
    /// A timestep lies outside the training schedule.
    #[error(
        "timestep {timestep} is outside the training schedule of {num_train_timesteps} timesteps"
    )]
    Timestep {
        /// The timestep on the training scale.
        timestep: i64,
        /// Length of the training schedule.
        num_train_timesteps: usize,
    },
    /// A list of explicit timesteps cannot be a plan.
    #[error("explicit timesteps refused: {reason}")]
    Timesteps {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two arrays that must have one shape have two.
    #[error("{what} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// Name of the array.
        what: &'static str,
        /// Shape that came.
        found: Vec<usize>,
        /// Shape that was needed.
        expected: Vec<usize>,
    },
    /// `step` was called for a step index that does not exist, or out of order.
    #[error("step index {step_index} refused: the scheduler has {steps} steps and expects {next}")]
    StepIndex {
        /// The index asked for.
        step_index: usize,
        /// The number of steps.
        steps: usize,
        /// The index that comes next.
        next: usize,
    },
    /// A value in the loop is NaN or infinite.
    #[error("{what} is not finite at step {step_index} (timestep {timestep})")]
    NotFinite {
        /// Name of the array.
        what: &'static str,
        /// Loop counter, from 0.
        step_index: usize,
        /// Timestep on the training scale.
        timestep: f64,
    },
    /// The progress callback asked to stop.
    #[error("cancelled at step {step_index}")]
    Cancelled {
        /// Loop counter, from 0, of the step after which the loop stopped.
        step_index: usize,
    },
}
