#include "config/settings_check.hpp"

#include "core/route/predictor_choice.hpp"

#include <charconv>

namespace moira {

namespace {

std::string place(const loaded_settings& loaded, std::string_view key) {
    return std::string(key) + " (" + std::string(loaded.origin(key)) + ")";
}

result<endpoint> check_address(const loaded_settings& loaded, std::string_view key, const std::string& text) {
    if (text.empty())
        return endpoint{};
    auto parsed = parse_endpoint(text);
    if (!parsed)
        return fail(errc::invalid_config, place(loaded, key) + ": " + parsed.error().message);
    return parsed;
}

result<void> check_batch(const loaded_settings& loaded) {
    const batch_settings& batch = loaded.values.batch;
    if (batch.max_step_tokens >= batch.max_sequences)
        return {};
    return fail(errc::invalid_config,
                place(loaded, "batch.max_step_tokens") + ": found " + std::to_string(batch.max_step_tokens) +
                    ", expected at least " + place(loaded, "batch.max_sequences") + " = " +
                    std::to_string(batch.max_sequences) + ": every running sequence needs a row of each step");
}

result<void> check_prefetch(const loaded_settings& loaded) {
    const expert_settings& experts = loaded.values.experts;
    if (experts.prefetch == "off" || experts.loader_threads >= 2)
        return {};
    return fail(errc::invalid_config, place(loaded, "experts.prefetch") + ": found " + experts.prefetch +
                                          ", expected at least 2 " + place(loaded, "experts.loader_threads") +
                                          ": one must stay free for experts that are wanted now");
}

/// Drafts are verified by equality, which needs rows that do not depend on the cache.
result<void> check_pruning(const loaded_settings& loaded) {
    const settings& all = loaded.values;
    if (all.prune.mode != "cache_aware" || all.speculation.mode == "off")
        return {};
    return fail(errc::invalid_config, place(loaded, "speculation.mode") + ": found " + all.speculation.mode +
                                          ", expected off with " + place(loaded, "prune.mode") +
                                          " = cache_aware: its answers depend on the cache, so that a draft cannot be "
                                          "checked; set speculation.mode = off, or prune.mode = gate_mass");
}

} // namespace

result<endpoint> parse_endpoint(std::string_view text) {
    const auto refused = [&] {
        return fail(errc::invalid_argument, "found \"" + std::string(text.substr(0, 128)) +
                                                "\", expected HOST:PORT such as 127.0.0.1:7420 or [::1]:7420");
    };
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos)
        return refused();
    std::string_view host = text.substr(0, colon);
    const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (bracketed)
        host = host.substr(1, host.size() - 2);
    constexpr std::size_t host_bytes_max = 255; // a DNS name
    if (host.empty() || host.size() > host_bytes_max || (!bracketed && host.find(':') != std::string_view::npos) ||
        host.find_first_of(" \t[]") != std::string_view::npos)
        return refused();
    const std::string_view digits = text.substr(colon + 1);
    std::uint16_t port = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (digits.empty() || code != std::errc{} || end != digits.data() + digits.size())
        return refused();
    return endpoint{std::string(host), port};
}

bool is_loopback(std::string_view host) {
    // A name such as 127.evil.example must not pass: only digits and dots may follow.
    const bool v4 = host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string_view::npos;
    return v4 || host == "::1" || host == "localhost";
}

result<void> check_settings(const loaded_settings& loaded) {
    const server_settings& server = loaded.values.server;
    const auto tcp = check_address(loaded, "server.tcp", server.tcp);
    if (!tcp)
        return tl::unexpected(tcp.error());
    const auto http = check_address(loaded, "server.http", server.http);
    if (!http)
        return tl::unexpected(http.error());
    for (const auto& address : {*tcp, *http})
        if (server.fault_injection && !address.host.empty() && !is_loopback(address.host))
            return fail(errc::invalid_config, place(loaded, "server.fault_injection") + ": found true with address " +
                                                  address.host +
                                                  ", expected a loopback address: anyone who connects "
                                                  "could kill parts of the server");
    if (auto done = check_prefetch(loaded); !done)
        return done;
    if (auto choice = parse_predictor_choice(loaded.values.experts.predictor); !choice)
        return fail(choice.error().code, place(loaded, "experts.predictor") + ": " + choice.error().message);
    if (auto done = check_pruning(loaded); !done)
        return done;
    return check_batch(loaded);
}

} // namespace moira
