#include "tests/end_to_end/matrix_transport.hpp"

#include "tests/actors/http_replies.hpp"

#include <nlohmann/json.hpp>

namespace moira {

namespace {

nlohmann::json fields_of(const generation_input& input) {
    nlohmann::json fields{{"ignore_eos", input.ignore_eos}, {"stream", true}};
    if (input.prompt)
        fields["prompt"] = *input.prompt;
    if (input.ids)
        fields["ids"] = *input.ids;
    if (input.max_tokens)
        fields["max_tokens"] = *input.max_tokens;
    if (input.temperature)
        fields["temperature"] = *input.temperature;
    if (input.seed)
        fields["seed"] = *input.seed;
    return fields;
}

std::size_t count_of(std::string_view text, std::string_view part) {
    std::size_t count = 0;
    for (auto at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size()))
        ++count;
    return count;
}

/// The end of a stream as the matrix compares it.
matrix_event outcome_of(std::size_t request, const http_reply_read& reply) {
    const auto events = reply.events();
    if (reply.status != 200 || events.size() < 2)
        return {request, matrix_outcome{}, reply.body};
    const auto last = nlohmann::json::parse(events[events.size() - 2], nullptr, false);
    if (!last.is_object() || !last.contains("moira"))
        return {request, matrix_outcome{}, events[events.size() - 2]};
    return {request,
            matrix_outcome{last["moira"]["logits_hash"].get<std::string>(),
                           {},
                           last["usage"]["prompt_tokens_details"]["cached_tokens"].get<std::int32_t>()},
            {}};
}

} // namespace

void matrix_mailbox::put(matrix_event event) {
    const std::lock_guard held(lock_);
    events_.push_back(std::move(event));
    arrived_.notify_all();
}

matrix_event matrix_mailbox::take() {
    std::unique_lock held(lock_);
    if (!arrived_.wait_for(held, tcp_client::patience, [&] { return !events_.empty(); }))
        return {0, matrix_outcome{}, "no news within the test's patience"};
    auto first = std::move(events_.front());
    events_.pop_front();
    return first;
}

void direct_transport::submit(std::size_t request, const generation_input& input) {
    runtime_.submit(input, [request, box = mailbox_](const output_event& news) {
        for (std::size_t token = 0; token < news.tokens.size(); ++token)
            box->put({request, std::nullopt, {}});
        if (news.finished) {
            const auto& ended = *news.finished;
            matrix_event last{request, matrix_outcome{ended.logits_hash, ended.token_ids, ended.cached_tokens}, {}};
            if (ended.failure)
                last.failure = ended.failure->message;
            box->put(std::move(last));
        }
    });
}

void tcp_transport::submit(std::size_t request, const generation_input& input) {
    auto line = fields_of(input);
    line["id"] = std::to_string(request);
    client_.send(line.dump() + "\n");
}

matrix_event tcp_transport::next() {
    const auto line = client_.line();
    if (!line || !line->is_object() || line->contains("error") || !(*line)["id"].is_string())
        return {0, matrix_outcome{}, line ? line->dump() : "the connection is gone"};
    matrix_event news;
    news.request = std::stoul(line->at("id").get<std::string>());
    if (line->contains("done"))
        news.finished = matrix_outcome{line->at("moira").at("logits_hash").get<std::string>(),
                                       line->at("token_ids").get<std::vector<token_id>>(),
                                       line->at("usage").at("cached_tokens").get<std::int32_t>()};
    return news;
}

http_transport::~http_transport() {
    for (auto& thread : threads_)
        thread.join();
}

void http_transport::submit(std::size_t request, const generation_input& input) {
    auto fields = fields_of(input);
    fields["stream_options"]["include_usage"] = true;
    const auto body = fields.dump();
    threads_.emplace_back([this, request,
                           text = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: " +
                                  std::to_string(body.size()) + "\r\n\r\n" + body] { read_stream(request, text); });
}

void http_transport::read_stream(std::size_t request, const std::string& text) {
    tcp_client client(address_);
    client.send(text);
    bool malformed = false;
    for (std::size_t told = 0;;) {
        for (const auto seen = count_of(client.unread(), "\"finish_reason\":null"); told < seen; ++told)
            mailbox_.put({request, std::nullopt, {}});
        if (const auto reply = take_reply(client.unread(), malformed))
            return mailbox_.put(outcome_of(request, *reply));
        if (malformed || !client.receive())
            return mailbox_.put({request, matrix_outcome{}, "the connection is gone"});
    }
}

} // namespace moira
