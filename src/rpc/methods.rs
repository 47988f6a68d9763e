//! Every method that the server answers, with a number and a class. A call is matched by its path
//! once; counting it and guarding it need no text after that.

/// What a method is to those who guard and bound calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Open to whoever can connect.
    Open,
    /// Administrative, or about what is known of a customer: it needs a token.
    Guarded,
    /// Always answered, also by a server that refuses everything else.
    Health,
}

/// The methods by their full names, the most frequent ones first. A test holds this against
/// `proto/`, so a new method has to find its class here.
const METHODS: [(&str, Class); 16] = [
    ("habitus.v1.PredictionService/GetPrediction", Class::Open),
    ("habitus.v1.PredictionService/BatchPredict", Class::Open),
    ("habitus.v1.PredictionService/ScoreCustomers", Class::Open),
    ("habitus.v1.CustomerService/IngestEvents", Class::Guarded),
    ("habitus.v1.CustomerService/DeleteCustomer", Class::Guarded),
    ("habitus.v1.SegmentService/ListSegments", Class::Open),
    ("habitus.v1.SegmentService/GetSegment", Class::Open),
    ("habitus.v1.SegmentService/ListSegmentMembers", Class::Open),
    ("habitus.v1.ModelService/ListModelVersions", Class::Open),
    ("habitus.v1.ModelService/GetModelVersion", Class::Open),
    ("habitus.v1.ModelService/SetAlias", Class::Guarded),
    ("habitus.v1.ModelService/RollBack", Class::Guarded),
    ("grpc.health.v1.Health/Check", Class::Health),
    ("grpc.health.v1.Health/Watch", Class::Health),
    ("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Class::Open),
    ("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Class::Open),
];

/// A service of which every method is guarded, also one that is not in the list.
const GUARDED_SERVICE: &str = "habitus.v1.CustomerService/";

/// The method of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method {
    index: usize,
    pub class: Class,
}

impl Method {
    /// Those whose answers are a version's have the first numbers.
    pub const GET_PREDICTION: Method = Method { index: 0, class: Class::Open };
    pub const BATCH_PREDICT: Method = Method { index: 1, class: Class::Open };
    pub const SCORE_CUSTOMERS: Method = Method { index: 2, class: Class::Open };
    pub const N_OF_VERSIONS: usize = 3;

    /// How many numbers there are. The last stands for all paths that are no method.
    pub const COUNT: usize = METHODS.len() + 1;

    /// The method that is called by a path.
    pub fn of(path: &str) -> Method {
        let name = path.strip_prefix('/').unwrap_or(path);
        match METHODS.iter().position(|(known, _)| *known == name) {
            Some(index) => Method { index, class: METHODS[index].1 },
            None if name.starts_with(GUARDED_SERVICE) => Method::unknown(Class::Guarded),
            None => Method::unknown(Class::Open),
        }
    }

    fn unknown(class: Class) -> Method {
        Method { index: METHODS.len(), class }
    }

    /// From 0 to below [`Method::COUNT`].
    pub fn index(self) -> usize {
        self.index
    }

    /// All names by number. What callers send is never a name, so there are no more than these.
    pub fn names() -> impl Iterator<Item = &'static str> {
        METHODS.iter().map(|(name, _)| *name).chain(["other"])
    }
}

#[cfg(test)]
mod tests {
    use super::super::pb;
    use super::*;
    use prost::Message;
    use prost_types::FileDescriptorSet;

    #[test]
    fn every_method_of_every_service_has_its_number() {
        for set in [pb::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET] {
            for file in FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    for method in &service.method {
                        let path =
                            format!("/{}.{}/{}", file.package(), service.name(), method.name());
                        let found = Method::of(&path);
                        assert!(found.index() < METHODS.len(), "{path} has no place in METHODS");
                        assert_eq!(
                            format!("/{}", Method::names().nth(found.index()).unwrap()),
                            path
                        );
                    }
                }
            }
        }
        assert_eq!(Method::names().count(), Method::COUNT);
    }

    #[test]
    fn whatever_changes_something_is_guarded() {
        for path in [
            "/habitus.v1.ModelService/SetAlias",
            "/habitus.v1.ModelService/RollBack",
            "/habitus.v1.CustomerService/IngestEvents",
            "/habitus.v1.CustomerService/Anything",
        ] {
            assert_eq!(Method::of(path).class, Class::Guarded, "{path}");
        }
        assert_eq!(Method::of("/grpc.health.v1.Health/Check").class, Class::Health);
        for path in ["/habitus.v1.PredictionService/GetPrediction", "/made/up", "", "/"] {
            assert_eq!(Method::of(path).class, Class::Open, "{path}");
        }
    }
}
