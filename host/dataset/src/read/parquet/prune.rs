//! Row groups in which no row can be wanted, by their statistics.

use ::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use ::parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use ::parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use ::parquet::file::statistics::Statistics;
use arrow::array::ArrayRef;

use crate::Filter;

/// Whether any row of each row group may be wanted.
pub(super) fn possible(footer: &ArrowReaderMetadata, filter: &Filter) -> Vec<bool> {
    let groups = footer.metadata().row_groups();
    filter.possible(groups.len(), &|column| bounds(footer, column))
}

/// The least and greatest values of a column in each row group. Statistics are an optimisation: what cannot be read of them is not
/// known, and the rows themselves are looked at.
fn bounds(footer: &ArrowReaderMetadata, column: &str) -> Option<(ArrayRef, ArrayRef)> {
    let groups = footer.metadata().row_groups();
    let converter = StatisticsConverter::try_new(column, footer.schema(), footer.parquet_schema()).ok()?;
    let leaf = converter.parquet_column_index()?;
    // Writers of old kept them in an order of their own.
    let deprecated = |group: &RowGroupMetaData| {
        group
            .columns()
            .get(leaf)
            .and_then(ColumnChunkMetaData::statistics)
            .is_some_and(Statistics::is_min_max_deprecated)
    };
    if groups.iter().any(deprecated) {
        return None;
    }
    Some((converter.row_group_mins(groups).ok()?, converter.row_group_maxes(groups).ok()?))
}
