#include "actors/load_protocol.hpp"

#include "actors/request_json.hpp"
#include "actors/told_statistics.hpp"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

namespace moira {

namespace {

tl::unexpected<error> no_target(std::string_view text) {
    return fail(errc::invalid_argument,
                "\"" + std::string(text.substr(0, 200)) +
                    "\" is no target: write tcp://HOST:PORT or http://HOST[:PORT], for IPv6 [HOST]:PORT");
}

bool is_port(std::string_view text) {
    std::uint16_t port = 0;
    const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), port);
    return problem == std::errc{} && end == text.data() + text.size() && port != 0;
}

std::int64_t whole_number(const nlohmann::json& object, const char* name) {
    const auto found = object.find(name);
    return found != object.end() && found->is_number_integer() ? found->get<std::int64_t>() : -1;
}

/// Lines of JSON: the server's own protocol.
class line_load_protocol final : public load_protocol {
public:
    explicit line_load_protocol(std::string key) : key_(std::move(key)) {}

    std::string greet() override {
        buffer_.clear();
        return key_.empty() ? std::string() : nlohmann::json{{"auth", key_}}.dump() + "\n";
    }

    std::string ask_facts() override {
        open_ = true;
        id_.clear();
        return "{\"stats\":true}\n";
    }

    std::string ask_statistics() override { return ask_facts(); }

    std::string ask(const load_request& request) override {
        open_ = true;
        id_ = "r" + std::to_string(++asked_);
        nlohmann::json line{{"id", id_},
                            {"max_tokens", request.max_tokens},
                            {"seed", request.seed},
                            {"temperature", request.temperature},
                            {"stream", request.stream},
                            {"ignore_eos", !request.stop_at_end_token}};
        if (request.ids.empty())
            line["prompt"] = request.prompt;
        else
            line["ids"] = request.ids;
        return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    }

    reply_news receive(std::string_view bytes) override {
        buffer_.append(bytes);
        reply_news news;
        std::size_t begin = 0;
        for (auto end = buffer_.find('\n'); end != std::string::npos; end = buffer_.find('\n', begin)) {
            take_line(std::string_view(buffer_).substr(begin, end - begin), news);
            begin = end + 1;
        }
        buffer_.erase(0, begin);
        if (buffer_.size() > load_reply_bytes_max)
            return end_with(broken_reply("answer_too_long"));
        if (news.state != reply_news::outcome::open)
            open_ = false;
        return news;
    }

    reply_news closed() override { return end_with(open_ ? broken_reply("connection_closed") : reply_news{}); }

private:
    reply_news end_with(reply_news news) {
        open_ = false;
        buffer_.clear();
        return news;
    }

    void take_line(std::string_view text, reply_news& news) {
        if (news.state != reply_news::outcome::open || !open_)
            return; // nothing is open, so nothing can be meant
        const auto line = parse_request_json(text);
        if (!line) {
            news = broken_reply("invalid_answer");
            return;
        }
        if (const auto stats = line->find("stats"); stats != line->end() && id_.empty() && stats->is_object())
            return take_facts(*stats, news);
        const auto id = line->find("id");
        const bool named = id != line->end() && id->is_string();
        if (named && *id != id_)
            return;
        if (const auto why = line->find("error"); why != line->end() && why->is_object())
            return take_error(*why, named, news);
        if (line->contains("done"))
            return take_end(*line, news);
        news.tokens += line->contains("token") ? 1 : 0;
    }

    static void take_facts(const nlohmann::json& stats, reply_news& news) {
        load_server_facts facts;
        if (const auto model = stats.find("model"); model != stats.end() && model->is_string())
            facts.model = model->get<std::string>();
        if (const auto size = whole_number(stats, "vocabulary"); size > 0 && size <= INT32_MAX)
            facts.vocabulary = static_cast<std::int32_t>(size);
        if (const auto size = whole_number(stats, "context_max"); size > 0 && size <= INT32_MAX)
            facts.context_max = static_cast<std::int32_t>(size);
        if (auto told = told_statistics(stats))
            facts.statistics = std::make_shared<const runtime_statistics>(std::move(*told));
        news.facts = std::move(facts);
        news.state = reply_news::outcome::completed;
    }

    /// An error without an id concerns the connection, which then ends.
    static void take_error(const nlohmann::json& why, bool named, reply_news& news) {
        const auto code = why.find("code");
        news.state = reply_news::outcome::failed;
        news.reason = shown_code(code != why.end() && code->is_string() ? code->get_ref<const std::string&>() : "");
        news.reusable = named;
    }

    static void take_end(const nlohmann::json& line, reply_news& news) {
        const auto reason = line.find("finish_reason");
        news.state = reason != line.end() && *reason == "cancelled" ? reply_news::outcome::cancelled
                                                                    : reply_news::outcome::completed;
        if (reason != line.end() && *reason == "error") {
            news.state = reply_news::outcome::failed;
            news.reason = "error";
        }
        if (const auto usage = line.find("usage"); usage != line.end() && usage->is_object())
            news.completion_tokens =
                static_cast<std::uint64_t>(std::max<std::int64_t>(0, whole_number(*usage, "completion_tokens")));
    }

    std::string key_, buffer_, id_;
    std::uint64_t asked_ = 0;
    bool open_ = false;
};

} // namespace

result<load_target> parse_load_target(std::string_view text) {
    load_target target;
    auto rest = text;
    if (rest.starts_with("http://")) {
        target.http = true;
        rest.remove_prefix(7);
        if (rest.ends_with('/'))
            rest.remove_suffix(1);
    } else if (rest.starts_with("tcp://")) {
        rest.remove_prefix(6);
    } else {
        return no_target(text);
    }
    const auto bracket = rest.rfind(']');
    const auto colon = rest.rfind(':');
    const bool has_port = colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket);
    if (!has_port && !target.http)
        return no_target(text);
    const auto port = has_port ? rest.substr(colon + 1) : std::string_view("80");
    auto host = has_port ? rest.substr(0, colon) : rest;
    if (host.size() > 2 && host.front() == '[' && host.back() == ']')
        host = host.substr(1, host.size() - 2);
    else if (host.find_first_of(":[]") != std::string_view::npos)
        return no_target(text);
    if (host.empty() || !is_port(port) || host.find_first_of("/@?# \r\n\t") != std::string_view::npos)
        return no_target(text);
    target.host = host;
    target.port = port;
    return target;
}

reply_news broken_reply(std::string reason) {
    reply_news news;
    news.state = reply_news::outcome::failed;
    news.reason = std::move(reason);
    news.reusable = false;
    return news;
}

std::string shown_code(std::string_view code) {
    constexpr std::size_t code_bytes_max = 64; // the longest of ours has 20
    const auto plain = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    };
    if (code.empty() || code.size() > code_bytes_max || !std::all_of(code.begin(), code.end(), plain))
        return "error";
    return std::string(code);
}

std::unique_ptr<load_protocol> make_line_load_protocol(std::string key) {
    return std::make_unique<line_load_protocol>(std::move(key));
}

std::unique_ptr<load_protocol> make_load_protocol(const load_protocol_options& options) {
    return options.target.http ? make_http_load_protocol(options) : make_line_load_protocol(options.key);
}

} // namespace moira
