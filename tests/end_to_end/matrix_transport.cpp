#include "tests/end_to_end/matrix_transport.hpp"

#include <nlohmann/json.hpp>

namespace moira {

void direct_transport::submit(std::size_t request, const generation_input& input) {
    runtime_.submit(input, [request, box = mailbox_](const output_event& news) {
        const std::lock_guard held(box->lock);
        for (std::size_t token = 0; token < news.tokens.size(); ++token)
            box->events.push_back({request, std::nullopt, {}});
        if (news.finished) {
            const auto& ended = *news.finished;
            matrix_event last{request, matrix_outcome{ended.logits_hash, ended.token_ids, ended.cached_tokens}, {}};
            if (ended.failure)
                last.failure = ended.failure->message;
            box->events.push_back(std::move(last));
        }
        box->arrived.notify_all();
    });
}

matrix_event direct_transport::next() {
    std::unique_lock held(mailbox_->lock);
    if (!mailbox_->arrived.wait_for(held, tcp_client::patience, [&] { return !mailbox_->events.empty(); }))
        return {0, matrix_outcome{}, "no news within the test's patience"};
    auto first = std::move(mailbox_->events.front());
    mailbox_->events.pop_front();
    return first;
}

void tcp_transport::submit(std::size_t request, const generation_input& input) {
    nlohmann::json line{{"id", std::to_string(request)}, {"ignore_eos", input.ignore_eos}, {"stream", true}};
    if (input.prompt)
        line["prompt"] = *input.prompt;
    if (input.ids)
        line["ids"] = *input.ids;
    if (input.max_tokens)
        line["max_tokens"] = *input.max_tokens;
    if (input.temperature)
        line["temperature"] = *input.temperature;
    if (input.seed)
        line["seed"] = *input.seed;
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

} // namespace moira
