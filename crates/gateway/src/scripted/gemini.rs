//! Replies as Gemini sends them: each chunk of a stream is a small answer, with the counts so far.

use serde_json::{Value, json};

use super::{
    ReplyUsage,
    wire::{Playing, pieces},
};

impl Playing<'_> {
    fn gemini_usage(&self, output: u64) -> Value {
        let ReplyUsage { input, cache_read, cache_write, .. } = self.usage.unwrap_or_default();
        let prompt = input + cache_read + cache_write;
        // What was thought is counted beside what was said.
        let thoughts = if self.reply.thinking.is_empty() { 0 } else { output / 2 };
        json!({
            "promptTokenCount": prompt, "cachedContentTokenCount": cache_read, "thoughtsTokenCount": thoughts,
            "candidatesTokenCount": output - thoughts, "totalTokenCount": prompt + output,
        })
    }

    fn gemini_answer(&self, parts: Value, output: u64, finish: Option<&str>) -> Value {
        let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
        if let Some(finish) = finish {
            candidate["finishReason"] = finish.into();
        }
        let mut answer = json!({
            "candidates": [candidate], "modelVersion": self.model, "responseId": format!("{:016x}", self.number),
        });
        if self.usage.is_some() {
            answer["usageMetadata"] = self.gemini_usage(output);
        }
        answer
    }

    /// A call has no name; the first one is signed when something was thought before it.
    fn gemini_calls(&self) -> Vec<Value> {
        let tools = if self.break_arguments { &[] } else { self.reply.tools.as_slice() };
        let calls = tools.iter().enumerate().map(|(at, tool)| {
            let mut part = json!({"functionCall": {"name": tool.name, "args": tool.arguments}});
            if at == 0 && !self.reply.thinking.is_empty() {
                part["thoughtSignature"] = self.signature().into();
            }
            part
        });
        calls.collect()
    }

    pub(super) fn gemini_document(&self) -> Value {
        let (thinking, text) = (&self.reply.thinking, &self.reply.text);
        let said = [json!({"text": thinking, "thought": true}), json!({"text": text})];
        let said = said.into_iter().filter(|part| part["text"] != "");
        let parts: Vec<_> = said.chain(self.gemini_calls()).collect();
        self.gemini_answer(parts.into(), self.usage.unwrap_or_default().output, Some(self.stop()))
    }

    pub(super) fn gemini_events(&self) -> Vec<String> {
        let thoughts = pieces(&self.reply.thinking).map(|piece| json!({"text": piece, "thought": true}));
        let texts = pieces(&self.reply.text).map(|piece| json!({"text": piece}));
        let output = self.usage.unwrap_or_default().output;
        let begun = thoughts.chain(texts).map(|part| self.gemini_answer(json!([part]), output.min(1), None));
        let last = self.gemini_answer(self.gemini_calls().into(), output, Some(self.stop()));
        begun.chain([last]).map(|chunk| format!("data: {chunk}\r\n\r\n")).collect()
    }
}
