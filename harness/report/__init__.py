"""From records to what people read: tables, figures, comparisons with the paper, published folders, the page."""
