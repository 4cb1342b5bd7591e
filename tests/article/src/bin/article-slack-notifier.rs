//! The article's plugin sample as a program: the sample as printed, and the two handlers that it leaves out.
#![expect(unused_variables, reason = "the sample, as printed, does not use the context in on_event")]

async fn get_settings(State(ctx): State<PluginContext>) -> Json<serde_json::Value> {
    let text = std::fs::read_to_string(ctx.data_dir().join("settings.json")).unwrap_or_default();
    Json(serde_json::from_str(&text).unwrap_or_default())
}

async fn update_settings(
    State(ctx): State<PluginContext>,
    Json(settings): Json<serde_json::Value>,
) -> Result<Json<serde_json::Value>, String> {
    std::fs::write(ctx.data_dir().join("settings.json"), settings.to_string()).map_err(|e| e.to_string())?;
    Ok(Json(settings))
}

include!("../../samples/slack_notifier.rust");
