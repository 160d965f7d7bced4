#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace moira {

/// Reads one HTTP/1.1 answer after the other from pieces of any size: status, the headers that matter, and the body
/// with its transfer coding removed. For the load generator; the body goes to whoever asks, nothing of it is kept here.
class http_reply_reader {
public:
    enum class part { head, body, ended, broken };

    /// Ready for the next answer.
    void begin();

    /// Takes as much of `bytes` as belongs to the present part, removes it from `bytes`, and appends body bytes to
    /// `body`. Call until `bytes` is empty or the answer has ended or is broken.
    void take(std::string_view& bytes, std::string& body);

    /// The peer has closed: a body without a length ends with it, anything else is broken.
    void close();

    part state() const noexcept { return part_; }
    int status() const noexcept { return status_; }
    bool event_stream() const noexcept { return event_stream_; }
    bool reusable() const noexcept { return keep_alive_ && framing_ != framing::until_close; }

private:
    enum class framing { length, chunk_size, chunk_data, chunk_end, trailer, until_close };

    void take_head(std::string_view& bytes);
    void read_head(std::string_view head);
    void read_header(std::string_view name, std::string_view value);
    void take_data(std::string_view& bytes, std::string& body);
    bool take_text_line(std::string_view& bytes);
    void read_chunk_size();

    part part_ = part::head;
    framing framing_ = framing::until_close;
    std::string line_; ///< head or line that is not complete yet
    std::uint64_t left_ = 0;
    std::size_t trailers_ = 0;
    int status_ = 0;
    bool keep_alive_ = true, event_stream_ = false, chunked_ = false, length_known_ = false;
};

} // namespace moira
