// The half of http_session that speaks: what goes back to the client.
#include "actors/http_session.hpp"
#include "actors/metrics_text.hpp"

#include <nlohmann/json.hpp>

namespace moira {

using nlohmann::ordered_json;

void http_session::deliver(const output_event& event, const expert_store_statistics& experts, session_output& output) {
    if (closed_ || !exchange_ || exchange_->tag == 0 || exchange_->tag != event.tag)
        return;
    const bool failed = event.finished && (event.finished->reason == finish_reason::error ||
                                           event.finished->reason == finish_reason::cancelled);
    // Before the first token a failure still has its status.
    if (failed && !exchange_->stream_begun)
        return refuse(http_failure_of(failure_of(*event.finished)), output);
    if (exchange_->stream)
        stream_tokens(event, output);
    if (!event.finished)
        return;
    if (exchange_->stream)
        return finish_stream(*event.finished, experts, output);
    reply_json(openai_reply_json(exchange_->shape, *event.finished,
                                 moira_json(site_.identity, experts, *event.finished, exchange_->ignored)),
               output);
}

void http_session::stream_tokens(const output_event& event, session_output& output) {
    auto& owed = *exchange_;
    const auto say = [&](std::string_view text, bool first) {
        append_event(output.bytes, json_text(openai_chunk_json(owed.shape, text, first)));
    };
    if (!owed.stream_begun) {
        owed.stream_begun = true;
        auto head = reply_head(200);
        head.content_type = "text/event-stream";
        head.extra_fields = "Cache-Control: no-cache\r\n";
        append_stream_head(output.bytes, head);
        if (owed.shape.endpoint == openai_endpoint::chat_completions)
            say("", true);
    }
    for (std::size_t i = 0; i < event.tokens.size(); ++i) {
        auto text = event.tokens[i].text;
        if (i + 1 == event.tokens.size())
            text += event.tail_text;
        if (!text.empty()) // a character is incomplete, or might begin a stop string
            say(text, false);
    }
    if (event.tokens.empty() && !event.tail_text.empty())
        say(event.tail_text, false);
}

void http_session::finish_stream(const generation_result& outcome, const expert_store_statistics& experts,
                                 session_output& output) {
    const auto& shape = exchange_->shape;
    if (outcome.reason == finish_reason::error || outcome.reason == finish_reason::cancelled) {
        append_event(output.bytes, json_text(http_error_json(http_failure_of(failure_of(outcome)))));
    } else {
        auto last = openai_finish_chunk_json(shape, outcome.reason);
        if (shape.include_usage) {
            append_event(output.bytes, json_text(last));
            last = openai_usage_chunk_json(shape, outcome);
        }
        last["moira"] = moira_json(site_.identity, experts, outcome, exchange_->ignored);
        append_event(output.bytes, json_text(last));
    }
    append_event(output.bytes, "[DONE]");
    append_chunk(output.bytes, {});
    end_reply(output);
}

/// Nobody but the drain's end cancels a request whose client is still there.
error http_session::failure_of(const generation_result& outcome) const {
    if (outcome.reason == finish_reason::cancelled)
        return {draining_ ? errc::draining : errc::cancelled, "the request was cancelled by the server"};
    return outcome.failure.value_or(error{errc::internal, "the request failed without a reason"});
}

void http_session::deliver_statistics(const result<std::shared_ptr<const runtime_statistics>>& statistics,
                                      const tcp_statistics& server, session_output& output) {
    if (closed_ || !exchange_ || exchange_->to != route::metrics)
        return;
    if (!statistics)
        return refuse({503, statistics.error()}, output);
    reply(200, "text/plain; version=0.0.4; charset=utf-8", metrics_text(**statistics, server), output);
}

void http_session::deliver_text(const result<text_answer>& answer, session_output& output) {
    if (closed_ || !exchange_ || (exchange_->to != route::tokenize && exchange_->to != route::detokenize))
        return;
    if (!answer)
        return refuse(http_failure_of(answer.error()), output);
    reply_json(exchange_->to == route::tokenize ? tokenize_json(*answer, site_.identity) : detokenize_json(*answer),
               output);
}

std::vector<std::uint64_t> http_session::running() const {
    if (exchange_ && exchange_->tag != 0)
        return {exchange_->tag};
    return {};
}

http_reply http_session::reply_head(int status) const {
    http_reply head;
    head.status = status;
    head.request_id = request_id_;
    head.unix_time_s = site_.unix_time_s();
    head.keep_alive = keep_alive_ && !draining_ && !overrun_;
    head.body_wanted = !head_only_;
    return head;
}

void http_session::reply(int status, std::string_view content_type, std::string_view body, session_output& output) {
    auto head = reply_head(status);
    head.content_type = content_type;
    append_reply(output.bytes, head, body);
    end_reply(output);
}

void http_session::reply_json(const ordered_json& value, session_output& output) {
    reply(200, "application/json", json_text(value), output);
}

void http_session::refuse(const http_failure& failure, session_output& output) {
    auto head = reply_head(failure.status);
    head.extra_fields = fields_of_failure(failure);
    if (failure.status == 405)
        head.extra_fields += "Allow: " + allowed_method_ + "\r\n";
    append_reply(output.bytes, head, json_text(http_error_json(failure)));
    end_reply(output);
}

/// The answer is complete: forgets the request, and closes when that was said or must be.
void http_session::end_reply(session_output& output) {
    const bool ends = !keep_alive_ || draining_ || overrun_;
    exchange_.reset();
    parser_.reset();
    head_judged_ = head_only_ = http_1_0_ = false;
    keep_alive_ = true;
    request_id_.clear();
    model_name_.clear();
    // One long body must not hold its memory for the rest of the connection.
    constexpr std::size_t kept_bytes_max = std::size_t{64} << 10;
    if (buffer_.empty() && buffer_.capacity() > kept_bytes_max)
        buffer_.shrink_to_fit();
    if (!ends)
        return;
    closed_ = true;
    output.actions.emplace_back(close_action{errc::cancelled});
}

} // namespace moira
