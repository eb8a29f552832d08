//! The families of pipelines, by the class that `model_index.json` names.

/// Which parts a pipeline has and how they are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// A U-Net alone, perhaps with classes.
    Unconditional,
    /// Stable Diffusion 1 and 2 and latent consistency models: one text encoder, a U-Net.
    StableDiffusion,
    /// Stable Diffusion XL: two text encoders, a U-Net.
    StableDiffusionXl,
    /// Stable Diffusion 3: up to three text encoders, a transformer.
    StableDiffusion3,
    /// Flux: two text encoders, a transformer.
    Flux,
}

/// Classes without their prefix (`ORT`, `Onnx`) and suffix (the task and `Pipeline`).
const CLASSES: [(&str, Family); 7] = [
    ("DDPM", Family::Unconditional),
    ("DDIM", Family::Unconditional),
    ("StableDiffusion", Family::StableDiffusion),
    ("LatentConsistencyModel", Family::StableDiffusion),
    ("StableDiffusionXL", Family::StableDiffusionXl),
    ("StableDiffusion3", Family::StableDiffusion3),
    ("Flux", Family::Flux),
];

impl Family {
    /// The family of a class such as `StableDiffusionXLImg2ImgPipeline`.
    pub(crate) fn of_class(class_name: &str) -> Option<Self> {
        let name = class_name.strip_suffix("Pipeline")?;
        let name = ["ORT", "Onnx"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .unwrap_or(name);
        let name = ["Img2Img", "Inpaint"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        CLASSES
            .iter()
            .find(|(class, _)| *class == name)
            .map(|&(_, family)| family)
    }

    /// The classes that are served, for messages.
    pub(crate) fn accepted() -> String {
        CLASSES
            .map(|(class, _)| format!("{class}Pipeline"))
            .join(", ")
    }

    /// Whether the pipeline takes a prompt.
    pub(crate) fn takes_prompt(self) -> bool {
        self != Self::Unconditional
    }

    /// Whether the model predicts the velocity of a straight path (flow matching) instead of noise.
    pub(crate) fn is_flow(self) -> bool {
        matches!(self, Self::StableDiffusion3 | Self::Flux)
    }

    /// The folder of the denoising model.
    pub(crate) fn denoiser_part(self) -> &'static str {
        if self.is_flow() {
            "transformer"
        } else {
            "unet"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_known_whatever_its_task_and_exporter() {
        for (class, family) in [
            ("StableDiffusionPipeline", Family::StableDiffusion),
            ("OnnxStableDiffusionPipeline", Family::StableDiffusion),
            (
                "StableDiffusionXLImg2ImgPipeline",
                Family::StableDiffusionXl,
            ),
            (
                "ORTStableDiffusion3InpaintPipeline",
                Family::StableDiffusion3,
            ),
            ("DDPMPipeline", Family::Unconditional),
        ] {
            assert_eq!(Family::of_class(class), Some(family), "{class}");
        }
        for class in ["KandinskyPipeline", "StableDiffusion", "Pipeline", ""] {
            assert_eq!(Family::of_class(class), None, "{class}");
        }
    }
}
