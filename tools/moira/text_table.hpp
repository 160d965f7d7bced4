#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moira {

/// Rows of cells for people, columns aligned to the left and two spaces apart.
class text_table {
public:
    explicit text_table(std::vector<std::string> headings);

    void add(std::vector<std::string> cells);

    /// With `colour` the headings are dim. Widths count UTF-8 characters.
    std::string print(bool colour) const;

private:
    std::vector<std::vector<std::string>> rows_; ///< the first one holds the headings
};

/// "59.4 MiB": three digits for people, not exact.
std::string rounded_bytes(std::uint64_t bytes);

} // namespace moira
