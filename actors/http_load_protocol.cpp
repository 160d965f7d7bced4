#include "actors/http_reply_reader.hpp"
#include "actors/load_protocol.hpp"
#include "actors/request_json.hpp"
#include "actors/told_statistics.hpp"

#include <nlohmann/json.hpp>

namespace moira {

namespace {

using nlohmann::json;

/// One object, as bounded as what a server reads; null where it is none.
json object_of(std::string_view text) {
    auto object = parse_request_json(text);
    return object ? std::move(*object) : json();
}

const json* member(const json& object, const char* name) {
    if (!object.is_object())
        return nullptr;
    const auto found = object.find(name);
    return found == object.end() ? nullptr : &*found;
}

std::optional<std::int32_t> size_of(const json& object, std::initializer_list<const char*> names) {
    for (const char* name : names)
        if (const auto* value = member(object, name); value != nullptr && value->is_number_integer())
            if (const auto number = value->get<std::int64_t>(); number > 0 && number <= INT32_MAX)
                return static_cast<std::int32_t>(number);
    return std::nullopt;
}

/// OpenAI's completions, streamed as server-sent events or in one piece.
class http_load_protocol final : public load_protocol {
public:
    explicit http_load_protocol(const load_protocol_options& options)
        : host_(options.target.host.find(':') == std::string::npos ? options.target.host
                                                                   : "[" + options.target.host + "]"),
          key_(options.key), model_(options.model) {
        host_ += ":" + options.target.port;
    }

    std::string greet() override {
        forget();
        return {};
    }

    std::string ask_facts() override {
        forget();
        open_ = facts_ = true;
        return head("GET /v1/models") + "\r\n";
    }

    std::string ask_statistics() override {
        forget();
        open_ = metrics_ = true;
        return head("GET /metrics") + "\r\n";
    }

    std::string ask(const load_request& request) override {
        forget();
        open_ = true;
        json body{
            {"model", model_},      {"max_tokens", request.max_tokens}, {"temperature", request.temperature},
            {"seed", request.seed}, {"stream", request.stream},         {"ignore_eos", !request.stop_at_end_token}};
        if (request.ids.empty())
            body["prompt"] = request.prompt;
        else
            body["prompt"] = request.ids;
        if (request.stream)
            body["stream_options"] = {{"include_usage", true}};
        const auto text = body.dump(-1, ' ', false, json::error_handler_t::replace);
        return head("POST /v1/completions") +
               "Content-Type: application/json\r\nContent-Length: " + std::to_string(text.size()) + "\r\n\r\n" + text;
    }

    reply_news receive(std::string_view bytes) override {
        reply_news news;
        while (!bytes.empty() && open_) {
            reader_.take(bytes, body_);
            read_events(news);
            if (body_.size() > load_reply_bytes_max)
                return end_with(broken_reply("answer_too_long"));
            if (reader_.state() == http_reply_reader::part::broken)
                return end_with(broken_reply("invalid_answer"));
            if (reader_.state() == http_reply_reader::part::ended)
                return end_with(finish(std::move(news)));
            if (news.state != reply_news::outcome::open)
                return end_with(std::move(news));
        }
        return news;
    }

    reply_news closed() override {
        if (!open_)
            return {};
        reader_.close();
        if (reader_.state() == http_reply_reader::part::ended)
            return end_with(finish({}));
        return end_with(broken_reply("connection_closed"));
    }

private:
    std::string head(const std::string& what) const {
        std::string text = what + " HTTP/1.1\r\nHost: " + host_ + "\r\nAccept: application/json, text/event-stream\r\n";
        return key_.empty() ? text : text + "Authorization: Bearer " + key_ + "\r\n";
    }

    void forget() {
        reader_.begin();
        body_.clear();
        reason_.clear();
        tokens_ = 0;
        open_ = facts_ = metrics_ = done_ = cancelled_ = false;
    }

    reply_news end_with(reply_news news) {
        open_ = false;
        body_.clear();
        return news;
    }

    bool streaming() const { return reader_.status() == 200 && reader_.event_stream(); }

    /// Takes the complete lines of server-sent events out of the body.
    void read_events(reply_news& news) {
        if (!streaming())
            return;
        std::size_t begin = 0;
        for (auto end = body_.find('\n'); end != std::string::npos; end = body_.find('\n', begin)) {
            auto line = std::string_view(body_).substr(begin, end - begin);
            begin = end + 1;
            if (line.ends_with('\r'))
                line.remove_suffix(1);
            if (!line.starts_with("data:"))
                continue;
            line.remove_prefix(line.starts_with("data: ") ? 6 : 5);
            if (line == "[DONE]")
                done_ = true;
            else
                read_event(object_of(line), news);
        }
        body_.erase(0, begin);
    }

    void read_event(const json& event, reply_news& news) {
        if (!event.is_object()) {
            reason_ = "invalid_answer";
            return;
        }
        read_error(event);
        read_usage(event);
        const auto* choices = member(event, "choices");
        if (choices == nullptr || !choices->is_array() || choices->empty())
            return;
        read_finish((*choices)[0]);
        const auto* text = member((*choices)[0], "text");
        news.tokens += text != nullptr && text->is_string() && !text->get_ref<const std::string&>().empty() ? 1 : 0;
    }

    void read_error(const json& answer) {
        const auto* why = member(answer, "error");
        if (why == nullptr)
            return;
        const auto* code = member(*why, "code");
        reason_ = shown_code(code != nullptr && code->is_string() ? code->get_ref<const std::string&>() : "");
    }

    void read_finish(const json& choice) {
        const auto* reason = member(choice, "finish_reason");
        if (reason == nullptr)
            return;
        cancelled_ = cancelled_ || *reason == "cancelled";
        if (*reason == "error" && reason_.empty())
            reason_ = "error";
    }

    void read_usage(const json& answer) {
        if (const auto* usage = member(answer, "usage"))
            if (const auto count = size_of(*usage, {"completion_tokens"}))
                tokens_ = static_cast<std::uint64_t>(*count);
    }

    static load_server_facts facts_of(const json& answer) {
        load_server_facts facts;
        const auto* models = member(answer, "data");
        if (models == nullptr || !models->is_array() || models->empty())
            return facts;
        if (const auto* id = member((*models)[0], "id"); id != nullptr && id->is_string())
            facts.model = id->get<std::string>();
        // OpenAI names no length; servers add one under a name of their own.
        facts.context_max = size_of((*models)[0], {"context_max", "context_length", "max_model_len", "context_window"});
        facts.vocabulary = size_of((*models)[0], {"vocabulary"});
        return facts;
    }

    /// The answer is complete.
    reply_news finish(reply_news news) {
        news.reusable = reader_.reusable();
        if (streaming()) {
            if (!done_ && reason_.empty())
                reason_ = "connection_closed";
        } else if (metrics_ && reader_.status() == 200) {
            news.facts.emplace();
            if (auto told = told_statistics(std::string_view(body_)))
                news.facts->statistics = std::make_shared<const runtime_statistics>(std::move(*told));
        } else {
            const auto answer = object_of(body_);
            read_whole(answer);
            if (facts_ && reason_.empty())
                news.facts = facts_of(answer);
        }
        news.completion_tokens = tokens_;
        news.reason = reason_;
        news.state = !reason_.empty() ? reply_news::outcome::failed
                     : cancelled_     ? reply_news::outcome::cancelled
                                      : reply_news::outcome::completed;
        return news;
    }

    void read_whole(const json& answer) {
        read_error(answer);
        if (reader_.status() != 200) {
            if (reason_.empty() || reason_ == "error")
                reason_ = "http_" + std::to_string(reader_.status());
            return;
        }
        if (!answer.is_object()) {
            reason_ = "invalid_answer";
            return;
        }
        read_usage(answer);
        if (const auto* choices = member(answer, "choices");
            choices != nullptr && choices->is_array() && !choices->empty())
            read_finish((*choices)[0]);
    }

    std::string host_, key_, model_, body_, reason_;
    http_reply_reader reader_;
    std::uint64_t tokens_ = 0;
    bool open_ = false, facts_ = false, metrics_ = false, done_ = false, cancelled_ = false;
};

} // namespace

std::unique_ptr<load_protocol> make_http_load_protocol(const load_protocol_options& options) {
    return std::make_unique<http_load_protocol>(options);
}

} // namespace moira
