// Tap tables as the plan makes them, and subtiles over them.

#pragma once
#include <vector>

#include "params.h"
#include "random.h"

// [values][taps]: runs of neighbours as in overlapping patches, zeros at the runs' ends, now and then a value
// whose taps are all zero or lie anywhere. Taps are below `inputs`.
inline std::vector<int32_t> random_taps(Random& random, int values, int taps, int inputs) {
    std::vector<int32_t> table;
    int at = 0;
    for (int value = 0; value < values; value++) {
        const uint64_t kind = random.below(16);
        at = kind < 3 ? int(random.below(uint64_t(inputs))) : at + 1;
        for (int tap = 0; tap < taps; tap++) {
            const int input = kind == 0 ? int(random.below(uint64_t(inputs))) : at + tap - taps / 2;
            const bool zero = kind == 1 || (kind == 2 && tap == taps - 1) || (kind == 3 && tap == 0);
            table.push_back(zero || input < 0 || input >= inputs ? ZERO : input);
        }
    }
    return table;
}

// Cuts the values of a table of 3 taps into sections: as long as they may be, or of random length.
template <class Section, int LENGTH, int INPUTS>
std::vector<Section> cut_sections(Random& random, const std::vector<int32_t>& table, bool random_lengths) {
    std::vector<Section> sections;
    const int values = int(table.size()) / 3;
    for (int first = 0; first < values;) {
        Section section{};
        section.first = first;
        const int most = random_lengths ? 1 + int(random.below(LENGTH)) : LENGTH;
        for (int value = first; value < values && section.count < most; value++) {
            Section longer = section;
            bool fits = true;
            for (int tap = 0; tap < 3; tap++) {
                const int input = table[size_t(value) * 3 + size_t(tap)];
                int local = 0;
                while (local < longer.inputs && longer.input[local] != input) local++;
                if (input != ZERO && local == longer.inputs) {
                    if (local == INPUTS) {
                        fits = false;
                        break;
                    }
                    longer.input[longer.inputs++] = input;
                }
                longer.tap[longer.count][tap] = input == ZERO ? SECTION_ZERO : uint8_t(local);
            }
            if (!fits) break;
            longer.count++;
            section = longer;
        }
        first += section.count;
        if (section.inputs == 0) section.inputs = 1;  // all taps are zero
        sections.push_back(section);
    }
    return sections;
}

inline std::vector<RowSection> row_sections(Random& random, const std::vector<int32_t>& table, bool random_lengths) {
    return cut_sections<RowSection, SUBTILE_ROWS, SUBTILE_INPUT_ROWS>(random, table, random_lengths);
}

inline std::vector<ColumnSection> column_sections(Random& random, const std::vector<int32_t>& table,
                                                  bool random_lengths) {
    return cut_sections<ColumnSection, SUBTILE_COLUMNS, SUBTILE_INPUT_COLUMNS>(random, table, random_lengths);
}

// About two thirds of all subtiles, with about two thirds of their pixels.
inline std::vector<Subtile> random_subtiles(Random& random, size_t row_sections, size_t column_sections) {
    std::vector<Subtile> subtiles;
    for (size_t i = 0; i < row_sections * column_sections; i++) {
        if (i != 0 && random.below(3) == 0) continue;
        Subtile subtile{int32_t(i / column_sections), int32_t(i % column_sections), {}};
        for (uint32_t& wanted : subtile.wanted) wanted = uint32_t(random.next() | random.next());
        subtiles.push_back(subtile);
    }
    return subtiles;
}

inline bool is_wanted(const Subtile& subtile, int row, int column) {
    const int bit = row * SUBTILE_COLUMNS + column;
    return subtile.wanted[bit / 32] >> bit % 32 & 1;
}

// Number of subtiles launched, and the pixels they want, if sections are 8 and 16 consecutive values. No subtiles: all of them.
inline unsigned subtile_count(const std::vector<Subtile>& subtiles, int rows, int columns) {
    const unsigned all =
        unsigned((rows + SUBTILE_ROWS - 1) / SUBTILE_ROWS * ((columns + SUBTILE_COLUMNS - 1) / SUBTILE_COLUMNS));
    return subtiles.empty() ? all : unsigned(subtiles.size());
}
inline bool is_wanted(const std::vector<Subtile>& subtiles, int row, int column) {
    for (const Subtile& subtile : subtiles)
        if (subtile.row_section == row / SUBTILE_ROWS && subtile.column_section == column / SUBTILE_COLUMNS)
            return is_wanted(subtile, row % SUBTILE_ROWS, column % SUBTILE_COLUMNS);
    return subtiles.empty();
}
