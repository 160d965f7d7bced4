#include "core/base/error.hpp"

#include <array>

namespace moira {

namespace {

constexpr std::array table{
    error_description{errc::invalid_argument, "invalid_argument", 400, false, "correct the named value and send again"},
    error_description{errc::invalid_json, "invalid_json", 400, false, "send one complete JSON object"},
    error_description{errc::invalid_utf8, "invalid_utf8", 400, false, "send text as UTF-8"},
    error_description{errc::unknown_field, "unknown_field", 400, false, "remove or correct the named field"},
    error_description{errc::prompt_too_long, "prompt_too_long", 400, false,
                      "shorten the prompt, or raise context.max_tokens where the model allows it"},
    error_description{errc::token_out_of_range, "token_out_of_range", 400, false,
                      "send ids from 0 to the vocabulary size minus 1"},
    error_description{errc::duplicate_id, "duplicate_id", 409, false, "choose an id that is not running"},
    error_description{errc::not_found, "not_found", 404, false, "check the name"},
    error_description{errc::unsupported, "unsupported", 400, false, "leave the named feature out"},
    error_description{errc::line_too_long, "line_too_long", 413, false, "send less, or raise the server's limit"},
    error_description{errc::unauthorized, "unauthorized", 401, false, "send a key from server.api_key_file"},
    error_description{errc::queue_full, "queue_full", 429, true, "wait and send again"},
    error_description{errc::too_many_connections, "too_many_connections", 503, true, "wait and connect again"},
    error_description{errc::too_slow, "too_slow", 408, true, "read and send faster, or ask for less"},
    error_description{errc::loading, "loading", 503, true, "wait until the server is warm and send again"},
    error_description{errc::draining, "draining", 503, true, "send to another server, or wait for the restart"},
    error_description{errc::restarted, "restarted", 503, true, "send again: a part of the server was lost and started anew"},
    error_description{errc::cancelled, "cancelled", 499, false, "nothing: the caller asked for it"},
    error_description{errc::deadline_exceeded, "deadline_exceeded", 504, true, "allow more time or ask for less"},
    error_description{errc::io_error, "io_error", 500, true, "check the disk and the file that the message names"},
    error_description{errc::corrupt_file, "corrupt_file", 500, false, "replace the file that the message names"},
    error_description{errc::invalid_config, "invalid_config", 500, false, "correct the setting that the message names"},
    error_description{errc::budget_too_small, "budget_too_small", 500, false,
                      "raise the budget to the minimum that the message names"},
    error_description{errc::out_of_memory, "out_of_memory", 503, true, "lower budgets or limits, or add memory"},
    error_description{errc::plugin_incompatible, "plugin_incompatible", 500, false,
                      "rebuild the plugin against this version, or remove it"},
    error_description{errc::op_missing, "op_missing", 500, false, "see `moira plugins --why`"},
    error_description{errc::device_error, "device_error", 500, true, "see the log; restart if it repeats"},
    error_description{errc::internal, "internal", 500, false, "report it with the log"},
};

}  // namespace

const error_description& describe(errc code) noexcept {
    for (const auto& row : table)
        if (row.code == code)
            return row;
    return table.back();
}

error_table all_errors() noexcept { return {table.data(), table.data() + table.size()}; }

}  // namespace moira
