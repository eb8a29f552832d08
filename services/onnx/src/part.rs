//! One model file of a pipeline: a session with what it declares about its inputs and outputs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use half::f16;
use ndarray::{ArrayD, ArrayViewD};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynValue, Outlet, Tensor, TensorElementType, TensorRef, ValueType};

use crate::error::OnnxError;
use crate::runtime::Runtime;

/// What goes into an input; it is cast to the type that the input declares.
#[derive(Debug, Clone)]
pub(crate) enum Feed<'a> {
    /// Real numbers.
    Real(ArrayViewD<'a, f32>),
    /// Whole numbers, such as token ids.
    Whole(&'a ndarray::ArrayD<i64>),
}

impl Feed<'_> {
    fn shape(&self) -> &[usize] {
        match self {
            Self::Real(array) => array.shape(),
            Self::Whole(array) => array.shape(),
        }
    }
}

/// A declared input or output.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) element: TensorElementType,
    /// -1 stands for a free dimension.
    pub(crate) shape: Vec<i64>,
    /// Names of the free dimensions; empty where there is none.
    pub(crate) symbols: Vec<String>,
}

/// A part of a pipeline, ready to run.
pub(crate) struct Part {
    name: String,
    path: PathBuf,
    session: Session,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// Time spent inside ONNX Runtime since the last [`Part::take_session_time`].
    session_time: Duration,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Part")
            .field("name", &self.name)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Part {
    /// Opens the model file `path` as the part `name`.
    pub(crate) fn open(runtime: &Runtime, name: &str, path: &Path) -> Result<Self, OnnxError> {
        Self::of_session(name, path, runtime.open_session(path)?)
    }

    /// As [`Part::open`], from the model's bytes; `path` says in errors where they come from, and
    /// external weights are found in the folder `weights`.
    pub(crate) fn open_bytes(
        runtime: &Runtime,
        (name, path): (&str, &Path),
        model: &[u8],
        weights: Option<&Path>,
    ) -> Result<Self, OnnxError> {
        let session = runtime.open_session_from(path, model, weights)?;
        Self::of_session(name, path, session)
    }

    fn of_session(name: &str, path: &Path, session: Session) -> Result<Self, OnnxError> {
        let inputs = ports(name, session.inputs())?;
        let outputs = ports(name, session.outputs())?;
        Ok(Self {
            name: name.to_owned(),
            path: path.to_owned(),
            session,
            inputs,
            outputs,
            session_time: Duration::ZERO,
        })
    }

    /// The declared inputs.
    pub(crate) fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// The input of that name.
    pub(crate) fn input(&self, name: &str) -> Result<&Port, OnnxError> {
        find(&self.inputs, name).ok_or_else(|| OnnxError::PortMissing {
            part: self.name.clone(),
            port: format!("input {name:?}"),
            has: names(&self.inputs),
        })
    }

    /// The first output that has one of these names, or the only output whatever its name.
    pub(crate) fn output(&self, accepted: &[&str]) -> Result<&Port, OnnxError> {
        accepted
            .iter()
            .find_map(|name| find(&self.outputs, name))
            .or(match self.outputs.as_slice() {
                [only] => Some(only),
                _ => None,
            })
            .ok_or_else(|| OnnxError::PortMissing {
                part: self.name.clone(),
                port: format!("output {:?}", accepted[0]),
                has: names(&self.outputs),
            })
    }

    /// Refuses a model that declares inputs beyond `made`.
    pub(crate) fn refuse_inputs_beyond(&self, made: &[&str]) -> Result<(), OnnxError> {
        match self
            .inputs
            .iter()
            .find(|port| !made.contains(&port.name.as_str()))
        {
            None => Ok(()),
            Some(port) => Err(OnnxError::InputNotMade {
                part: self.name.clone(),
                input: port.name.clone(),
            }),
        }
    }

    /// The declared outputs.
    pub(crate) fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// The error for something that the model does not have.
    pub(crate) fn missing(&self, port: &str) -> OnnxError {
        OnnxError::PortMissing {
            part: self.name.clone(),
            port: port.to_owned(),
            has: names(&self.outputs),
        }
    }

    /// Runs the model and returns the output `output` as real numbers.
    pub(crate) fn run(
        &mut self,
        feeds: &[(&str, Feed<'_>)],
        output: &str,
    ) -> Result<ArrayD<f32>, OnnxError> {
        let mut found = self.run_all(feeds, &[output])?;
        Ok(found.pop().expect("one output was asked for"))
    }

    /// Runs the model and returns the outputs of these names, in their order.
    pub(crate) fn run_all<S: AsRef<str>>(
        &mut self,
        feeds: &[(&str, Feed<'_>)],
        wanted: &[S],
    ) -> Result<Vec<ArrayD<f32>>, OnnxError> {
        let mut inputs = Vec::with_capacity(feeds.len());
        for (name, feed) in feeds {
            let port = self.input(name)?;
            self.refuse_shape(port, feed.shape())?;
            inputs.push((*name, self.value(name, feed, port.element)?));
        }
        let part = &self.name;
        let failed = |error: ort::Error| OnnxError::Run {
            part: part.clone(),
            reason: error.to_string(),
        };
        let started = Instant::now();
        let outputs = self.session.run(inputs).map_err(failed)?;
        self.session_time += started.elapsed();
        let mut found = Vec::with_capacity(wanted.len());
        for name in wanted {
            let value = outputs
                .get(name.as_ref())
                .ok_or_else(|| OnnxError::PortMissing {
                    part: part.clone(),
                    port: format!("output {:?}", name.as_ref()),
                    has: names(&self.outputs),
                })?;
            let array = extract(value).map_err(failed)?;
            // Numbers of 32 bits are checked by the loop and the decoder's caller.
            let is_half = value.dtype().tensor_type() == Some(TensorElementType::Float16);
            if is_half && array.iter().any(|value| !value.is_finite()) {
                return Err(OnnxError::HalfNotFinite {
                    part: part.clone(),
                    path: self.path.clone(),
                });
            }
            found.push(array);
        }
        Ok(found)
    }

    /// Refuses a shape that the declared one does not admit.
    fn refuse_shape(&self, port: &Port, shape: &[usize]) -> Result<(), OnnxError> {
        let fits = port.shape.len() == shape.len()
            && port
                .shape
                .iter()
                .zip(shape)
                .all(|(&declared, &found)| declared < 0 || declared == found as i64);
        if fits {
            return Ok(());
        }
        Err(OnnxError::PortKind {
            part: self.name.clone(),
            port: format!("input {:?}", port.name),
            found: format!("declared with shape {:?} (-1 is free)", port.shape),
            expected: format!("a shape that admits {shape:?}"),
        })
    }

    /// The time spent inside ONNX Runtime since the last call.
    pub(crate) fn take_session_time(&mut self) -> Duration {
        std::mem::take(&mut self.session_time)
    }

    fn value<'v>(
        &self,
        name: &str,
        feed: &'v Feed<'_>,
        element: TensorElementType,
    ) -> Result<SessionInputValue<'v>, OnnxError> {
        let failed = |error: ort::Error| OnnxError::Run {
            part: self.name.clone(),
            reason: error.to_string(),
        };
        let value: Cast<'v> = match feed {
            Feed::Real(array) if element == TensorElementType::Float32 => {
                if array.is_standard_layout() {
                    let tensor = TensorRef::from_array_view(array.view()).map_err(failed)?;
                    Some(tensor.into())
                } else {
                    let contiguous = array.as_standard_layout().into_owned();
                    Some(Tensor::from_array(contiguous).map_err(failed)?.into())
                }
            }
            Feed::Real(array) => cast_real(array, element).map_err(failed)?,
            Feed::Whole(array) => cast_whole(array, element).map_err(failed)?,
        };
        value.ok_or_else(|| OnnxError::PortKind {
            part: self.name.clone(),
            port: format!("input {name:?}"),
            found: element.to_string(),
            expected: "int32, int64, f16, f32 or f64".to_owned(),
        })
    }
}

/// `None` for a type that cannot be served.
type Cast<'v> = Option<SessionInputValue<'v>>;

fn cast_real(
    array: &ArrayViewD<'_, f32>,
    element: TensorElementType,
) -> ort::Result<Cast<'static>> {
    let value = match element {
        TensorElementType::Float16 => Tensor::from_array(array.map(|&v| f16::from_f32(v)))?.into(),
        TensorElementType::Float64 => Tensor::from_array(array.map(|&v| f64::from(v)))?.into(),
        // Whole-number timesteps are truncated, as the reference casts them.
        TensorElementType::Int64 => Tensor::from_array(array.map(|&v| v as i64))?.into(),
        TensorElementType::Int32 => Tensor::from_array(array.map(|&v| v as i32))?.into(),
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn cast_whole(array: &ArrayD<i64>, element: TensorElementType) -> ort::Result<Cast<'static>> {
    let value = match element {
        TensorElementType::Int64 => Tensor::from_array(array.clone())?.into(),
        TensorElementType::Int32 => Tensor::from_array(array.map(|&v| v as i32))?.into(),
        TensorElementType::Float32 => Tensor::from_array(array.map(|&v| v as f32))?.into(),
        _ => return Ok(None),
    };
    Ok(Some(value))
}

fn extract(value: &DynValue) -> ort::Result<ArrayD<f32>> {
    match value.dtype().tensor_type() {
        Some(TensorElementType::Float16) => {
            Ok(value.try_extract_array::<f16>()?.map(|v| v.to_f32()))
        }
        Some(TensorElementType::Float64) => {
            Ok(value.try_extract_array::<f64>()?.map(|&v| v as f32))
        }
        Some(TensorElementType::Int64) => Ok(value.try_extract_array::<i64>()?.map(|&v| v as f32)),
        _ => Ok(value.try_extract_array::<f32>()?.to_owned()),
    }
}

fn find<'p>(ports: &'p [Port], name: &str) -> Option<&'p Port> {
    ports.iter().find(|port| port.name == name)
}

fn names(ports: &[Port]) -> String {
    let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
    names.join(", ")
}

fn ports(part: &str, outlets: &[Outlet]) -> Result<Vec<Port>, OnnxError> {
    let mut ports = Vec::with_capacity(outlets.len());
    for outlet in outlets {
        let ValueType::Tensor {
            ty,
            shape,
            dimension_symbols,
        } = outlet.dtype()
        else {
            return Err(OnnxError::PortKind {
                part: part.to_owned(),
                port: format!("{:?}", outlet.name()),
                found: outlet.dtype().to_string(),
                expected: "a tensor".to_owned(),
            });
        };
        ports.push(Port {
            name: outlet.name().to_owned(),
            element: *ty,
            shape: shape.to_vec(),
            symbols: dimension_symbols.to_vec(),
        });
    }
    Ok(ports)
}
