#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>

namespace moira {

/// Every failure that can reach a caller. The table in error.cpp gives each one its wire name, HTTP status, whether a
/// retry can help, and what the caller should do; docs and protocols are generated from that table.
enum class errc {
    // the caller's request is wrong
    invalid_argument,      ///< a value, type or combination that cannot be served
    invalid_json,          ///< a line or body that is not one JSON object
    invalid_utf8,          ///< text that is not UTF-8
    unknown_field,         ///< a field or key that nobody reads
    prompt_too_long,       ///< prompt plus at least one token does not fit the context
    token_out_of_range,    ///< a token id outside the vocabulary
    duplicate_id,          ///< an id that is already running on this connection
    not_found,             ///< an id, file or model that is not there
    unsupported,           ///< known, but this build or model cannot do it
    line_too_long,         ///< a line or body over its limit
    // who is asking
    unauthorized,
    // the server cannot serve it now
    queue_full,
    too_many_connections,
    too_slow,              ///< a peer that neither reads nor sends within its time
    loading,               ///< starting: the model is not in memory yet
    draining,              ///< shutting down: finishes what runs, takes nothing new
    restarted,             ///< a part of the runtime was lost with this request and has been started again
    cancelled,
    deadline_exceeded,
    // files and settings
    io_error,              ///< the operating system failed a read or write
    corrupt_file,          ///< a file that contradicts itself or its format
    invalid_config,        ///< a setting or model configuration that cannot work
    budget_too_small,      ///< a memory budget below the stated minimum
    out_of_memory,
    // the machine room
    plugin_incompatible,   ///< a plugin of another ABI version, or one that broke its promise
    op_missing,            ///< no plugin can run an op that the model needs
    device_error,          ///< a kernel reported an error word or a launch failed
    internal,              ///< a bug in MOIRA
};

/// A failure with the words that a person needs: what was found, what was expected, what to do.
struct error {
    errc code = errc::internal;
    std::string message;
};

/// What the table knows of a code. `name` is the wire spelling ("queue_full").
struct error_description {
    errc code;
    std::string_view name;
    int http_status;
    bool retryable;
    std::string_view advice;
};

/// Never fails: every code has a row.
const error_description& describe(errc code) noexcept;

/// All rows, in the order of the enumeration.
struct error_table {
    const error_description* begin;
    const error_description* end;
};
error_table all_errors() noexcept;

/// A value, or why there is none. Functions that can fail return this; nothing in core/ throws across a public border.
template <class T>
using result = tl::expected<T, error>;

/// `return fail(errc::corrupt_file, "...")` in any function that returns a result.
inline tl::unexpected<error> fail(errc code, std::string message) {
    return tl::unexpected<error>(error{code, std::move(message)});
}

}  // namespace moira
