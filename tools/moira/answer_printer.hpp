#pragma once

#include "actors/output_event.hpp"

#include <atomic>

namespace moira {

/// Streams an answer to standard output. Called on a runtime thread; the question may come from any.
class answer_printer {
public:
    /// Nothing more is written after a write has failed.
    void show(const output_event& event);

    /// Standard output takes nothing any more: generating goes on for nobody.
    bool lost() const noexcept { return lost_; }

private:
    void write(const std::string& text);

    std::atomic<bool> lost_{false};
};

} // namespace moira
