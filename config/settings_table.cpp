#include "config/settings_table.hpp"

#include "config/spelling.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <type_traits>

namespace moira {

namespace {

using names = std::span<const std::string_view>;

// Choices. Where a second list follows, this version serves only its values; lifting that is removing the list.
constexpr std::string_view empty_only[] = {""};
constexpr std::string_view policies[] = {"foresight", "next_visit", "lru",        "lru_layer",
                                         "lfu_decay", "lfru",       "least_stale"};
constexpr std::string_view io_modes[] = {"auto", "direct", "buffered"};
constexpr std::string_view prefetch_modes[] = {"off", "auto", "always"};
constexpr std::string_view precisions[] = {"keep", "fp8"};
constexpr std::string_view prune_modes[] = {"off", "gate_mass", "cache_aware"};
constexpr std::string_view speculation_modes[] = {"off", "auto", "ngram", "mtp", "draft"};
constexpr std::string_view speculation_honoured[] = {"off", "auto", "ngram", "mtp"};
constexpr std::string_view devices[] = {"auto", "cpu", "cuda"};
constexpr std::string_view log_levels[] = {"trace", "debug", "info", "warning", "error", "off"};

// Bounds that several keys share. Two million positions is beyond any published context window; 2^53 is where a
// double, and with it every JSON reader, stops telling neighbours apart.
constexpr double tokens_max = 2'097'152;
constexpr double threads_max = 1'024;
constexpr double seconds_max = 86'400;
constexpr double seed_max = 9'007'199'254'740'992;
constexpr double kib = 1'024;
constexpr double mib = 1'024 * kib;
constexpr double tib = 1'024 * 1'024 * mib;

template <auto Section, auto Member>
setting_field field(settings& all) {
    return &((all.*Section).*Member);
}

template <auto Section, auto Member>
constexpr setting_row number(std::string_view key, std::string_view unit, double minimum, double maximum,
                             std::string_view reason) {
    return {key, unit, &field<Section, Member>, minimum, maximum, {}, {}, reason};
}

template <auto Section, auto Member>
constexpr setting_row text(std::string_view key, std::string_view reason, names choices = {}, names honoured = {}) {
    return {key, {}, &field<Section, Member>, 0.0, 0.0, choices, honoured, reason};
}

template <auto Section, auto Member>
constexpr setting_row plain(std::string_view key, std::string_view unit, std::string_view reason) {
    return {key, unit, &field<Section, Member>, 0.0, 0.0, {}, {}, reason};
}

using s = settings;
using experts = expert_settings;
using sampling = sampling_settings;
using server = server_settings;

constexpr std::array rows{
    plain<&s::model, &model_settings::path>("model.path", "", "folders in which a model name is looked up first"),
    text<&s::plugins, &plugin_settings::path>("plugins.path", "folder of plugins; empty: beside the executable"),

    plain<&s::experts, &experts::ram_budget>(
        "experts.ram_budget", "bytes, share of all expert bytes, or auto",
        "memory for resident experts; auto: as many as fit; with a GPU, of the tier below it"),
    plain<&s::experts, &experts::vram_budget>("experts.vram_budget", "bytes, share of all expert bytes, or auto",
                                              "memory of the GPU for resident experts; read only where one is used"),
    text<&s::experts, &experts::policy>("experts.policy", "which expert leaves when memory is full", policies),
    text<&s::experts, &experts::io>("experts.io", "how experts are read: past the page cache or through it", io_modes),
    text<&s::experts, &experts::prefetch>("experts.prefetch", "load predicted experts ahead of time", prefetch_modes),
    plain<&s::experts, &experts::measure_prediction>("experts.measure_prediction", "",
                                                     "measure every predictor in every step, for statistics"),
    text<&s::experts, &experts::predictor>(
        "experts.predictor", "gate, heads:FILE, history, history:FILE, previous, prompt or drafted; empty: gate"),
    text<&s::experts, &experts::precision>("experts.precision", "precision of experts; fp8 is lossy", precisions),
    text<&s::experts, &experts::profile>(
        "experts.profile",
        "file of experts used most: warms the cache at the start, is written at the end; empty: none"),
    number<&s::experts, &experts::loader_threads>("experts.loader_threads", "threads", 1, 64, "expert reads in flight"),

    text<&s::prune, &prune_settings::mode>("prune.mode", "leave out or replace experts of little weight; lossy",
                                           prune_modes),
    number<&s::prune, &prune_settings::gate_mass>("prune.gate_mass", "share", 0.01, 1,
                                                  "gate_mass: routing weight that the kept experts carry"),
    number<&s::prune, &prune_settings::sacred_ranks>("prune.sacred_ranks", "ranks", 1, 64,
                                                     "cache_aware: best experts of a token that nothing replaces"),
    number<&s::prune, &prune_settings::window>("prune.window", "share", 0, 1,
                                               "cache_aware: how much lower a substitute's score may be"),

    text<&s::speculation, &speculation_settings::mode>(
        "speculation.mode", "draft several tokens, verify them in a step", speculation_modes, speculation_honoured),
    number<&s::speculation, &speculation_settings::max_draft>("speculation.max_draft", "tokens", 0, 64,
                                                              "longest draft"),

    number<&s::sampling, &sampling::temperature>("sampling.temperature", "", 0, 100, "0: the most likely token"),
    number<&s::sampling, &sampling::top_p>("sampling.top_p", "", 0, 1, "keep the likeliest tokens up to this mass"),
    number<&s::sampling, &sampling::top_k>("sampling.top_k", "tokens", 0, tokens_max,
                                           "keep this many likeliest tokens; 0: all"),
    number<&s::sampling, &sampling::min_p>("sampling.min_p", "", 0, 1,
                                           "keep tokens of at least this share of the best probability"),
    number<&s::sampling, &sampling::repetition_penalty>("sampling.repetition_penalty", "", 0.01, 100,
                                                        "above 1: tokens already seen become less likely"),
    number<&s::sampling, &sampling::seed>("sampling.seed", "", 0, seed_max, "seed of requests that name none"),
    number<&s::sampling, &sampling::max_tokens>("sampling.max_tokens", "tokens", 1, tokens_max,
                                                "new tokens of requests that name no limit"),

    number<&s::batch, &batch_settings::max_sequences>("batch.max_sequences", "sequences", 1, 1024,
                                                      "sequences that run together"),
    number<&s::batch, &batch_settings::max_step_tokens>("batch.max_step_tokens", "tokens", 1, 65'536,
                                                        "rows of one step; sizes its working memory"),
    number<&s::batch, &batch_settings::max_chunk_tokens>("batch.max_chunk_tokens", "tokens", 1, 65'536,
                                                         "of one prompt per step, at most max_step_tokens"),

    number<&s::context, &context_settings::max_tokens>("context.max_tokens", "tokens", 0, tokens_max,
                                                       "prompt and answer together; 0: the model's limit"),
    number<&s::context, &context_settings::page_tokens>("context.page_tokens", "tokens", 1, 1024,
                                                        "positions in one page of the KV cache"),
    number<&s::context, &context_settings::kv_budget>("context.kv_budget", "bytes", 0, 16 * tib,
                                                      "most memory for the KV cache; one full context is always kept"),
    plain<&s::context, &context_settings::prefix_reuse>("context.prefix_reuse", "",
                                                        "reuse KV pages of equal prompt beginnings"),

    number<&s::compute, &compute_settings::threads>("compute.threads", "threads", 0, threads_max,
                                                    "compute threads; 0: all that this process may use"),
    text<&s::compute, &compute_settings::plugin>("compute.plugin", "use only this plugin; empty: the best for each op"),
    text<&s::compute, &compute_settings::device>("compute.device",
                                                 "where models run; auto: on a GPU if one can run, else on the "
                                                 "processor; check a GPU with tools/gpu_check first",
                                                 devices),
    number<&s::compute, &compute_settings::gpu>("compute.gpu", "number", 0, 15,
                                                "which of several suited GPUs, in the driver's order"),
    number<&s::compute, &compute_settings::spin_us>("compute.spin_us", "us", 0, 1'000'000,
                                                    "compute threads look for work this long before they park"),

    plain<&s::runtime, &runtime_settings::own_thread>("runtime.own_thread", "",
                                                      "steps run on a thread of their own, not on the scheduler's"),
    number<&s::runtime, &runtime_settings::step_timeout_s>("runtime.step_timeout_s", "s", 1, seconds_max,
                                                           "a step that computes longer hangs: its requests fail"),
    number<&s::runtime, &runtime_settings::actor_threads>("runtime.actor_threads", "threads", 1, threads_max,
                                                          "threads of the actor scheduler"),

    text<&s::server, &server::http>("server.http", "HOST:PORT for HTTP; port 0: any free one; empty: none"),
    text<&s::server, &server::tcp>("server.tcp", "HOST:PORT for the line protocol; port 0: any free one; empty: none"),
    text<&s::server, &server::api_key_file>("server.api_key_file", "file with one key a line; empty: no keys"),
    number<&s::server, &server::max_connections>("server.max_connections", "connections", 1, 65'536,
                                                 "open at once; more are refused"),
    number<&s::server, &server::max_queue>("server.max_queue", "requests", 1, 1'000'000,
                                           "waiting requests; more are refused"),
    number<&s::server, &server::max_requests_per_connection>("server.max_requests_per_connection", "requests", 1,
                                                             65'536, "running and waiting ones of one connection"),
    number<&s::server, &server::max_line_bytes>("server.max_line_bytes", "bytes", kib, 64 * mib,
                                                "longest line or body that a client may send"),
    number<&s::server, &server::idle_timeout_s>("server.idle_timeout_s", "s", 0, seconds_max,
                                                "closes a connection without requests; 0: never"),
    number<&s::server, &server::line_timeout_s>("server.line_timeout_s", "s", 1, seconds_max,
                                                "closes a connection that stops in the middle of a line"),
    number<&s::server, &server::write_timeout_s>("server.write_timeout_s", "s", 1, seconds_max,
                                                 "closes a connection that reads nothing"),
    number<&s::server, &server::max_write_queue_bytes>("server.max_write_queue_bytes", "bytes", 4 * kib, 1'024 * mib,
                                                       "unsent bytes of one connection; more close it"),
    number<&s::server, &server::drain_timeout_s>("server.drain_timeout_s", "s", 0, seconds_max,
                                                 "time for running requests after SIGTERM"),
    number<&s::server, &server::request_timeout_s>("server.request_timeout_s", "s", 0, seconds_max,
                                                   "longest life of a request; 0: no limit"),
    plain<&s::server, &server::fault_injection>("server.fault_injection", "",
                                                "lets clients kill actors, for tests; loopback only"),

    text<&s::log, &log_settings::level>("log.level", "least important lines that are written", log_levels),
};

template <class T>
constexpr bool is_integer = std::is_same_v<T, std::int32_t> || std::is_same_v<T, std::uint64_t>;

// Whole numbers as such, others with six digits: 0.01, 9007199254740992.
std::string number_text(double value) {
    std::array<char, 64> digits{};
    const bool whole = value == static_cast<double>(static_cast<std::int64_t>(value));
    const auto written =
        whole ? std::to_chars(digits.data(), digits.data() + digits.size(), static_cast<std::int64_t>(value))
              : std::to_chars(digits.data(), digits.data() + digits.size(), value, std::chars_format::general, 6);
    return {digits.data(), written.ptr};
}

std::string joined(names words) {
    std::string all;
    for (const auto word : words)
        all += (all.empty() ? "" : ", ") + std::string(word);
    return all;
}

// Only reads: the accessors take a mutable object because the loader writes through them.
setting_field field_of(const setting_row& row, const settings& all) {
    return row.field(const_cast<settings&>(all));
}

} // namespace

std::span<const setting_row> settings_table() noexcept {
    return rows;
}

const setting_row* find_setting(std::string_view key) noexcept {
    const auto found = std::ranges::find(rows, key, &setting_row::key);
    return found == rows.end() ? nullptr : &*found;
}

std::string_view nearest_setting(std::string_view key) {
    constexpr std::size_t length_max = 64; // beyond: certainly not a misspelt key
    if (key.size() > length_max)
        return {};
    std::string_view nearest;
    std::size_t least = misspelling_distance_max(key) + 1;
    const auto consider = [&](std::string_view word) {
        const std::size_t distance = spelling_distance(key, word);
        if (distance < least) {
            least = distance;
            nearest = word;
        }
    };
    for (const auto& row : rows) {
        consider(row.key);
        consider(row.key.substr(0, row.key.find('.')));
    }
    return nearest;
}

std::string_view setting_type_name(const setting_row& row) {
    settings probe;
    return std::visit(
        [](auto* field) -> std::string_view {
            using value = std::remove_pointer_t<decltype(field)>;
            if constexpr (std::is_same_v<value, bool>)
                return "true or false";
            else if constexpr (is_integer<value>)
                return "a whole number";
            else if constexpr (std::is_same_v<value, double>)
                return "a number";
            else if constexpr (std::is_same_v<value, byte_size>)
                return "bytes such as 512MiB";
            else if constexpr (std::is_same_v<value, memory_budget>)
                return "bytes such as 2GiB, a share such as 50%, or auto";
            else if constexpr (std::is_same_v<value, std::string>)
                return "text";
            else
                return "a text or a list of texts";
        },
        row.field(probe));
}

std::string setting_expectation(const setting_row& row) {
    if (!row.choices.empty())
        return "one of " + joined(row.choices);
    std::string words(setting_type_name(row));
    if (row.minimum < row.maximum)
        words += " from " + number_text(row.minimum) + " to " + number_text(row.maximum);
    return words;
}

setting_value read_setting(const setting_row& row, const settings& all) {
    return std::visit(
        [](auto* field) -> setting_value {
            using value = std::remove_pointer_t<decltype(field)>;
            if constexpr (std::is_same_v<value, std::int32_t>)
                return std::int64_t{*field};
            else if constexpr (std::is_same_v<value, byte_size>)
                return field->bytes;
            else if constexpr (std::is_same_v<value, memory_budget>)
                return format_memory_budget(*field);
            else
                return *field;
        },
        field_of(row, all));
}

std::string setting_text(const setting_row& row, const settings& all) {
    return std::visit(
        [](auto* field) -> std::string {
            using value = std::remove_pointer_t<decltype(field)>;
            if constexpr (std::is_same_v<value, bool>)
                return *field ? "true" : "false";
            else if constexpr (is_integer<value>)
                return std::to_string(*field);
            else if constexpr (std::is_same_v<value, double>)
                return number_text(*field);
            else if constexpr (std::is_same_v<value, byte_size>)
                return format_byte_size(*field);
            else if constexpr (std::is_same_v<value, memory_budget>)
                return format_memory_budget(*field);
            else if constexpr (std::is_same_v<value, std::string>)
                return *field;
            else
                return joined(std::vector<std::string_view>(field->begin(), field->end()));
        },
        field_of(row, all));
}

} // namespace moira
