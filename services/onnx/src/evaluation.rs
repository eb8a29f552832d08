//! Evaluations of the denoising model that several images share.

use ndarray::{Array4, ArrayView4, Axis, Slice, concatenate};

use crate::conditioning::Conditioning;
use crate::denoiser::{BatchForm, Denoiser};
use crate::error::OnnxError;

/// Which evaluations of a loop are guided and which are left out.
#[derive(Debug, Clone, Default)]
pub(crate) struct EvaluationPlan {
    /// Model evaluations of the loop.
    pub(crate) evaluations: usize,
    /// See [`crate::GenerateRequest::guidance_interval`].
    pub(crate) guidance_interval: Option<(f64, f64)>,
    /// See [`crate::GenerateRequest::reuse`].
    pub(crate) reuse: Vec<usize>,
}

impl EvaluationPlan {
    fn is_guided(&self, evaluation: usize) -> bool {
        let place = evaluation as f64 / self.evaluations.max(1) as f64;
        self.guidance_interval
            .is_none_or(|(from, to)| from <= place && place < to)
    }
}

/// What the model is told about one image of a batch.
pub(crate) struct Row<'a> {
    pub(crate) conditioning: &'a Conditioning,
    /// Channels that go in after those of the sample: mask and masked picture.
    pub(crate) beside: Option<Array4<f32>>,
    /// The output of the evaluation before, where the next one is left out.
    last: Option<Array4<f32>>,
}

impl<'a> Row<'a> {
    pub(crate) fn new(conditioning: &'a Conditioning, beside: Option<Array4<f32>>) -> Self {
        Self {
            conditioning,
            beside,
            last: None,
        }
    }
}

/// The evaluations of one loop for the images of a batch, whose plans are the same.
pub(crate) struct Evaluations<'a> {
    denoiser: &'a mut Denoiser,
    plan: &'a EvaluationPlan,
    rows: Vec<Row<'a>>,
    /// The conditions of all rows; made again when a row has left.
    stacked: Option<Conditioning>,
    evaluation: usize,
}

/// The model's answer for each image.
type Answers = Vec<Result<Array4<f32>, OnnxError>>;

impl<'a> Evaluations<'a> {
    pub(crate) fn new(
        denoiser: &'a mut Denoiser,
        plan: &'a EvaluationPlan,
        rows: Vec<Row<'a>>,
    ) -> Self {
        Self {
            denoiser,
            plan,
            rows,
            stacked: None,
            evaluation: 0,
        }
    }

    /// Evaluates the model for every row that is left, each a sample of shape (1, channels, height,
    /// width).
    pub(crate) fn next(&mut self, samples: &[ArrayView4<'_, f32>], timestep: f64) -> Answers {
        let is_reused = self.plan.reuse.contains(&self.evaluation);
        let kept: Option<Vec<Array4<f32>>> = is_reused
            .then(|| self.rows.iter_mut().map(|row| row.last.take()).collect())
            .flatten();
        let answers = match kept {
            Some(kept) => kept.into_iter().map(Ok).collect(),
            None => self.evaluate(samples, timestep),
        };
        self.evaluation += 1;
        if self.plan.reuse.contains(&self.evaluation) {
            for (row, answer) in self.rows.iter_mut().zip(&answers) {
                row.last = answer.as_ref().ok().cloned();
            }
        }
        answers
    }

    /// Leaves out the rows that are not kept from here on.
    pub(crate) fn retain(&mut self, kept: &[bool]) {
        let mut kept = kept.iter();
        self.rows.retain(|_| kept.next().copied().unwrap_or(false));
        self.stacked = None;
    }

    fn evaluate(&mut self, samples: &[ArrayView4<'_, f32>], timestep: f64) -> Answers {
        let widened: Vec<Array4<f32>> = self
            .rows
            .iter()
            .zip(samples)
            .filter_map(|(row, sample)| {
                let beside = row.beside.as_ref()?;
                Some(join(Axis(1), &[*sample, beside.view()]))
            })
            .collect();
        let views: Vec<ArrayView4<'_, f32>> = widened.iter().map(|sample| sample.view()).collect();
        let samples = if widened.is_empty() { samples } else { &views };
        let is_guided = self.plan.is_guided(self.evaluation);
        if samples.len() < 2 {
            return self.alone(samples, timestep, is_guided);
        }
        let (_, _, height, width) = samples[0].dim();
        let form = BatchForm {
            images: samples.len(),
            is_guided: is_guided && self.rows[0].conditioning.guided.is_some(),
            sides: (height, width),
        };
        match self.denoiser.is_exact(form) {
            Some(true) => match self.together(samples, timestep, is_guided) {
                Ok(answers) => answers.into_iter().map(Ok).collect(),
                Err(error) => {
                    // A row that spoils the batch fails alone; a batch that the model does not
                    // bear is not tried again.
                    let answers = self.alone(samples, timestep, is_guided);
                    if answers.iter().all(Result::is_ok) {
                        tracing::warn!(%error, ?form, "a batch failed; its images are made alone");
                        self.denoiser.note_exact(form, false);
                    }
                    answers
                }
            },
            Some(false) => self.alone(samples, timestep, is_guided),
            None => self.prove(form, samples, timestep),
        }
    }

    /// The first evaluation of its form: together and alone, to see whether each row has the same
    /// bits both ways. The answers are those of the rows alone.
    fn prove(
        &mut self,
        form: BatchForm,
        samples: &[ArrayView4<'_, f32>],
        timestep: f64,
    ) -> Answers {
        let alone = self.alone(samples, timestep, form.is_guided);
        if alone.iter().all(Result::is_ok) {
            let together = self.together(samples, timestep, form.is_guided);
            let is_exact = together.is_ok_and(|together| {
                let mut pairs = together.iter().zip(alone.iter().flatten());
                pairs.all(|(together, alone)| have_same_bits(together, alone))
            });
            if !is_exact {
                tracing::warn!(
                    ?form,
                    "the model gives other bits in this batch than alone; its images are made alone"
                );
            }
            self.denoiser.note_exact(form, is_exact);
        }
        alone
    }

    fn alone(
        &mut self,
        samples: &[ArrayView4<'_, f32>],
        timestep: f64,
        is_guided: bool,
    ) -> Answers {
        let rows = self.rows.iter().zip(samples);
        let answers = rows.map(|(row, sample)| {
            self.denoiser
                .predict((*sample, timestep), row.conditioning, is_guided)
        });
        answers.collect()
    }

    fn together(
        &mut self,
        samples: &[ArrayView4<'_, f32>],
        timestep: f64,
        is_guided: bool,
    ) -> Result<Vec<Array4<f32>>, OnnxError> {
        let rows: Vec<&Conditioning> = self.rows.iter().map(|row| row.conditioning).collect();
        let stacked = self
            .stacked
            .get_or_insert_with(|| Conditioning::stacked(&rows));
        let all = join(Axis(0), samples);
        let output = self
            .denoiser
            .predict((all.view(), timestep), stacked, is_guided)?;
        let row = |place: usize| {
            let row = Slice::from(place..=place);
            output.slice_axis(Axis(0), row).to_owned()
        };
        Ok((0..samples.len()).map(row).collect())
    }
}

fn join(axis: Axis, parts: &[ArrayView4<'_, f32>]) -> Array4<f32> {
    concatenate(axis, parts).expect("the images of a batch have one shape")
}

fn have_same_bits(left: &Array4<f32>, right: &Array4<f32>) -> bool {
    let mut values = left.iter().zip(right);
    left.dim() == right.dim() && values.all(|(left, right)| left.to_bits() == right.to_bits())
}
