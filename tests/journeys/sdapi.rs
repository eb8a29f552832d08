//! `webuiapi`, a client of A1111's interface, unmodified, against the real service.

use api::config::Role;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger::Scope;
use provenance::{Bundle, Entry};
use serde_json::{Value, json};
use tests::python::run_client;
use tests::service::{TestService, spawn_app, spawn_app_with};

#[test]
fn webuiapi_generates_edits_follows_interrupts_and_reads_files() {
    let service = spawn_app();
    let key = service.new_key("studio", &[Scope::Generate]);
    let port = service.port().to_string();
    let report = run_client("webui_client.py", &[&port, &key]);
    check_catalogue(&report["catalogue"]);
    check_text_to_image(&service, &report["txt2img"]);
    assert_eq!(report["noise_source"], "torch-cpu");
    check_image_to_image(&report["img2img"]);
    check_interruption(&report["interrupted"]);
    check_late_interruption(&report["interrupted_late"]["outcome"]);
    assert_eq!(report["sampler"]["parameter"], "sampler_name");
    assert_eq!(report["key"]["status"], 401);
}

#[test]
fn images_of_a_worker_in_another_process_come_with_the_text_that_their_files_carry() {
    let service = spawn_app_with(|config| config.role = Role::Api);
    let _worker = service.start_worker(&[]);
    let client = service.client();
    let mut order = json!({
        "prompt": "a red heart", "negative_prompt": "blue", "steps": 3, "seed": 7, "n_iter": 2,
        "sampler_name": "Euler", "cfg_scale": 3.5,
    });
    let answer = client.post_json("/sdapi/v1/txt2img", &order).expect_ok();
    let info: Value = serde_json::from_str(answer["info"].as_str().unwrap()).unwrap();
    let texts = info["infotexts"].as_array().unwrap();
    let images = answer["images"].as_array().unwrap();
    assert_eq!((texts.len(), images.len()), (2, 2), "{info}");
    for ((text, image), seed) in texts.iter().zip(images).zip([7, 8]) {
        let read = json!({ "image": image });
        let read = client.post_json("/sdapi/v1/png-info", &read).expect_ok();
        assert_eq!(&read["info"], text);
        let text = text.as_str().unwrap();
        let begins = "a red heart\nNegative prompt: blue\nSteps: 3, Sampler: Euler, ";
        assert!(
            text.starts_with(begins) && text.contains(&format!("Seed: {seed}, ")),
            "{text}"
        );
    }
    order["embed_parameters"] = false.into();
    let answer = client.post_json("/sdapi/v1/txt2img", &order).expect_ok();
    let info: Value = serde_json::from_str(answer["info"].as_str().unwrap()).unwrap();
    assert_eq!(info["infotexts"], json!(["", ""]));
}

fn check_catalogue(catalogue: &Value) {
    let model = &catalogue["models"][0];
    assert_eq!(catalogue["current"], model["title"]);
    let sha256 = model["sha256"].as_str().unwrap();
    assert_eq!(model["hash"], sha256[..10]);
    let samplers = catalogue["samplers"].as_array().unwrap();
    for name in ["DDIM", "DPM++ 2M", "Euler"] {
        assert!(samplers.contains(&json!(name)), "{samplers:?}");
    }
    let schedulers = catalogue["schedulers"].as_array().unwrap();
    assert!(schedulers.contains(&json!("karras")), "{schedulers:?}");
    let refused = catalogue["refused"].as_str().unwrap();
    assert!(refused.contains("CLIP_stop_at_last_layers"), "{refused}");
    assert_eq!(
        catalogue["scripts"],
        json!({ "txt2img": [], "img2img": [] })
    );
}

fn check_text_to_image(service: &TestService, found: &Value) {
    assert_eq!(found["sizes"], json!([[64, 64], [64, 64]]));
    let info = &found["info"];
    assert_eq!(info["prompt"], "a (red:1.2) heart");
    assert_eq!(info["all_seeds"], json!([7, 8]));
    assert_eq!(info["sampler_name"], "DPM++ 2M");
    assert_eq!(
        (&info["steps"], &info["cfg_scale"]),
        (&json!(4), &json!(3.5))
    );
    assert_eq!((&info["width"], &info["height"]), (&json!(64), &json!(64)));
    assert_eq!(info["infotexts"], found["texts"]);
    assert_eq!(found["png_info"], found["texts"][0]);
    let text = found["texts"][1].as_str().unwrap();
    assert!(
        text.starts_with(
            "a (red:1.2) heart\nNegative prompt: blue\nSteps: 4, Sampler: DPM++ 2M, \
             Schedule type: Karras, CFG scale: 3.5, Seed: 8, Size: 64x64, Model hash: "
        ),
        "{text}"
    );
    assert_eq!(found["parameters"]["steps"], 4);
    for (index, bundle) in found["bundles"].as_array().unwrap().iter().enumerate() {
        let bundle = STANDARD.decode(bundle.as_str().unwrap()).unwrap();
        let verified = Bundle::parse(&bundle)
            .unwrap()
            .verify(service.public_keys())
            .unwrap();
        let Entry::Generation(entry) = verified.entry else {
            panic!("{:?} is no generation", verified.entry);
        };
        assert_eq!(entry.seed, 7 + index as u64);
        let settings = entry.details.unwrap().settings;
        assert_eq!(settings["sigmas"], "karras");
        assert_eq!(settings["prompt_weights"], "true");
    }
}

fn check_image_to_image(found: &Value) {
    let whole = &found["whole"];
    assert_eq!(whole["task"], "image-to-image", "{whole}");
    assert_eq!(
        (&whole["strength"], &whole["sources"]),
        (&json!("0.5"), &json!(1))
    );
    assert_eq!(whole["info"]["denoising_strength"], 0.5);
    assert_eq!(whole["info"]["warnings"], json!([]));
    let masked = &found["masked"];
    assert_eq!(masked["task"], "inpainting", "{masked}");
    assert_eq!(masked["sources"], 2);
    // Only the part under the mask is worked on, and goes back into the picture.
    assert_eq!(masked["size"], json!([128, 96]));
    assert_eq!(
        (&masked["kept"], &masked["painted"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        masked["settings"],
        json!({
            "eta": "1", "inpaint_area": "only masked", "mask_blur": "4",
            "masked_area_padding": "0", "masked_content": "fill", "prompt_weights": "true",
        })
    );
    assert_eq!(masked["info"]["warnings"], json!([]));
    let text = masked["text"].as_str().unwrap();
    assert!(text.contains("Masked content: fill"), "{text}");
    let all = &found["all_of_it"];
    assert_eq!(all["size"], json!([64, 64]), "{all}");
    assert_eq!(all["settings"]["masked_content"], "latent noise");
    assert_eq!(found["blank"]["parameter"], "mask");
    assert_eq!(found["unknown_fill"]["parameter"], "inpainting_fill");
    let refused = found["restore"]["detail"].as_str().unwrap();
    assert!(refused.contains("restore_faces"), "{refused}");
    assert_eq!(found["none"]["parameter"], "init_images");
}

/// What was finished is recorded and handed out, and nothing beside it.
fn check_late_interruption(outcome: &Value) {
    let images = outcome["images"].as_u64().unwrap();
    assert!((1..8).contains(&images), "{outcome}");
    let info = &outcome["info"];
    assert_eq!(info["interrupted"], true);
    assert_eq!(info["all_seeds"].as_array().unwrap().len() as u64, images);
    let warning = info["warnings"][0].as_str().unwrap();
    assert!(warning.contains(&format!("{images} of 8")), "{warning}");
}

fn check_interruption(found: &Value) {
    let (seen, outcome) = (&found["seen"], &found["outcome"]);
    assert!(seen["progress"].as_f64().unwrap() > 0.0, "{seen}");
    assert_eq!(
        (&seen["job_count"], &seen["sampling_steps"]),
        (&json!(1), &json!(200))
    );
    assert_eq!(outcome["images"], 0, "{outcome}");
    assert_eq!(outcome["info"]["interrupted"], true);
    let after = &found["after"];
    assert_eq!(
        (&after["progress"], &after["state"]["job_count"]),
        (&json!(0.0), &json!(0))
    );
}
