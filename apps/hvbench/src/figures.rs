//! What was measured: figures by name, in the order of the table.

/// A figure: what an operation costs in instructions, or a number whose unit its name says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) key: String,
    /// None where the machine lacks what is measured.
    pub(crate) value: Option<f64>,
}

/// All figures of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures(Vec<Figure>);

impl Figures {
    /// The rows that the guest `bench` printed.
    ///
    /// # Errors
    /// It did not come to its end.
    pub(crate) fn of_guest(output: &str) -> Result<Self, &'static str> {
        let mut figures = Self::default();
        let mut ended = false;
        for line in output.lines() {
            // What stands before may be firmware's, which ends no line.
            let Some((_, row)) = line.split_once("bench: ") else {
                continue;
            };
            let mut words = row.split_whitespace();
            match (words.next(), words.next()) {
                (Some("end"), None) => ended = true,
                (Some(key), Some("absent")) => figures.add(key, None),
                (Some(key), Some(count)) => {
                    if let Ok(count) = count.parse() {
                        figures.add(key, Some(count));
                    }
                }
                (_, _) => {}
            }
        }
        match (ended, figures.0.is_empty()) {
            (true, false) => Ok(figures),
            (true, true) => Err("the guest measured nothing"),
            (false, _) => Err("the guest did not come to its end"),
        }
    }

    /// Adds a figure, or replaces the one of that name.
    pub(crate) fn add(&mut self, key: &str, value: Option<f64>) {
        match self.0.iter_mut().find(|figure| figure.key == key) {
            Some(figure) => figure.value = value,
            None => self.0.push(Figure {
                key: key.into(),
                value,
            }),
        }
    }

    /// Takes a figure out: it was not to be measured.
    pub(crate) fn remove(&mut self, key: &str) {
        self.0.retain(|figure| figure.key != key);
    }

    /// The figure of a name; none if that was not measured, or is absent.
    pub(crate) fn value(&self, key: &str) -> Option<f64> {
        self.0.iter().find(|figure| figure.key == key)?.value
    }

    /// Whether it was tried to measure that.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|figure| figure.key == key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Figure> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::Figures;

    const OUTPUT: &str = "Booting from ROM..bench: begin on hypervisor X, 1 CPUs\r\n\
        bench: loop 2.00 instructions, 10000 rounds\r\n\
        ......\r\n\
        bench: cpuid 831.83 instructions, 10000 rounds\r\n\
        bench: hypercall absent\r\n\
        bench: end\r\n\
        [axhv] VM \"bench\" powered off\r\n";

    #[test]
    fn rows_are_read_in_order() {
        let figures = Figures::of_guest(OUTPUT).unwrap();
        let keys: Vec<_> = figures.iter().map(|figure| figure.key.as_str()).collect();
        assert_eq!(keys, ["loop", "cpuid", "hypercall"]);
        assert_eq!(figures.value("cpuid"), Some(831.83));
        assert_eq!(figures.value("hypercall"), None);
        assert!(figures.has("hypercall") && !figures.has("rdmsr"));
    }

    #[test]
    fn a_guest_that_does_not_end_gives_nothing() {
        let cut = OUTPUT.replace("bench: end", "guest: panicked");
        assert!(Figures::of_guest(&cut).unwrap_err().contains("its end"));
        assert!(Figures::of_guest("bench: end\n").is_err());
    }

    #[test]
    fn a_later_run_replaces_a_figure_in_its_place() {
        let mut figures = Figures::of_guest(OUTPUT).unwrap();
        figures.add("hypercall", Some(5.0));
        figures.add("image-kib", Some(400.0));
        assert_eq!(figures.value("hypercall"), Some(5.0));
        assert_eq!(figures.iter().last().unwrap().key, "image-kib");
        assert_eq!(figures.iter().count(), 4);
        figures.remove("hypercall");
        assert!(!figures.has("hypercall"));
    }
}
